"""Batches of fixed shapes: each row's states are the same bits whichever rows are decoded beside it."""

import copy
from dataclasses import replace

import pytest

from bridge_common.errors import UserError
from ray_bridge.footprint.estimate import FIXED_BUCKET, FIXED_ROWS
from ray_bridge.generation import graphed_batch
from ray_bridge.generation.eager import decode_each
from ray_bridge.generation.fixed_shape import BUCKET, ROWS, BatchShapes, FixedShape, fixed_batches
from ray_bridge.generation.graphed import check_fits, decode_graphed
from ray_bridge.generation.sampling import Sampling
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.noise import generator
from tests.support.decoded_states import Recorder
from tests.support.decoding_rows import adapters_of, rows_of, soft_of
from tests.support.model_pairs import Arch, save_checkpoint

COUNT, LIMIT = 8, 5
SHAPE = FixedShape(rows=8, slots=512)
PARTS = ([0, 1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4], [5, 2, 0])
CASES: list[tuple[Arch, str]] = [("llama", "bfloat16"), ("gpt_neox", "float32")]


@pytest.fixture(scope="module", params=CASES, ids=["fused", "transformers"])
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FrozenLM:
    arch, dtype = request.param
    folder = save_checkpoint(tmp_path_factory.mktemp(arch) / "model", arch, width=64)
    model = FrozenLM.load(str(folder), dtype=dtype)
    return model.fuse() if arch == "llama" else model


@pytest.fixture(params=["text", "soft", "adapter"])
def recorder(request: pytest.FixtureRequest, lm: FrozenLM, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    rows = rows_of(lm, COUNT, header=1, soft_after_header=request.param == "soft")
    soft = None if request.param == "text" else soft_of(lm, COUNT)
    if request.param == "adapter":
        rows = [replace(row, injection="adapter") for row in rows]
        soft = soft_of(lm, COUNT, adapters_of(lm))
    return Recorder(lm, rows, soft, LIMIT, monkeypatch)


def test_states_are_the_same_bits_in_every_batch(recorder: Recorder) -> None:
    assert recorder.differing(PARTS, SHAPE) == 0
    assert recorder.differing(PARTS, None) > 0, "without fixed shapes rounding depends on the batch"


def test_rows_that_no_text_fills_change_nothing_and_no_row_leaves(
    lm: FrozenLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In double precision both ways write the same text, also if drawn."""
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 2)
    monkeypatch.setattr(graphed_batch, "RETIRE_SHARE", 1.0)  # at every check rows would leave
    exact = FrozenLM(copy.deepcopy(lm.model).double(), lm.tokenizer, lm.name)
    if lm.body is not None:
        exact.fuse()
    rows, soft, statistics = rows_of(exact, 5, header=1), soft_of(exact, 5), DecodingStatistics()
    draws = [Sampling(temperature=1.3, generators=[generator("d", i) for i in range(5)]) for _ in range(3)]
    written = decode_each(exact, rows, soft, 24, draws[0])
    exact.ends = exact.ends | {written[0][1]}  # ends the first row early
    fixed = decode_graphed(exact, rows, soft, 24, draws[1], shape=SHAPE, statistics=statistics)
    assert fixed == decode_each(exact, rows, soft, 24, draws[2])
    assert len(fixed[0]) <= 2 < max(map(len, fixed))
    assert (statistics.batches, statistics.retired) == (1, 0)


def test_a_rows_batch_follows_from_the_row_alone(lm: FrozenLM) -> None:
    rows = rows_of(lm, COUNT, header=1)
    rows[3] = replace(rows[3], header=rows[3].header - 1)  # its header happens to be read as fewer tokens
    rows[4] = replace(rows[4], prompt=rows[4].prompt * 8)
    shapes = BatchShapes(rows=4, bucket=64)

    def place(indices: list[int]) -> dict[int, tuple[FixedShape, int]]:
        given = [rows[i] for i in indices]
        batches = fixed_batches(lm, given, LIMIT, shapes, soft=False, inserted=0)
        assert sorted(at for batch in batches for at in batch.members) == list(range(len(given)))
        assert all(len(batch.members) <= 4 for batch in batches)
        return {indices[at]: (batch.shape, batch.longest) for batch in batches for at in batch.members}

    together = place(list(range(COUNT)))
    assert all(place([i])[i] == together[i] for i in range(COUNT))
    assert together[4] != together[2]
    assert all(shape.rows == 4 and shape.slots % 64 == 0 for shape, _ in together.values())


def test_a_shape_that_does_not_fit_is_refused_with_the_remedy(lm: FrozenLM) -> None:
    with pytest.raises(UserError, match=r"^batch_invariant: the GPU's memory does not hold 8 rows.*max_new_tokens"):
        check_fits(lm, SHAPE, False)


def test_the_estimate_counts_the_same_shapes() -> None:
    assert (FIXED_ROWS, FIXED_BUCKET) == (ROWS, BUCKET)
