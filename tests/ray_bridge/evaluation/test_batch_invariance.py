"""Under `batch_invariant` an answer in half precision depends on no other example, and on no batch, worker or order."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bridge_common.errors import UserError
from bridge_common.files import read_jsonl, write_jsonl
from ray_bridge.bridges.c2c import CacheFuser
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.fingerprint import fingerprint
from ray_bridge.config.presets import tiny
from ray_bridge.config.spec import JobSpec
from ray_bridge.config.task_mapping import known_mapping
from ray_bridge.distributed import Worker
from ray_bridge.evaluation import answerer
from ray_bridge.evaluation.answerer import Limits
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.generation import graphed
from ray_bridge.generation.fixed_shape import BatchShapes
from ray_bridge.inputs.rows import Row
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.splits import load_splits
from ray_bridge.tasks.task import Example
from tests.support.local_jobs import small_spec
from tests.support.model_pairs import PairFolders
from tests.support.untrained import KeepingEvaluator, shaken_translator
from tests.support.workers import on_workers

CHOICES = str(Path(__file__).parents[2] / "data" / "mapped" / "arc_challenge")
CONDITIONS = ("bridged", "target_alone")


def half_spec(folders: PairFolders, **changes: Any) -> JobSpec:
    """Settings under which texts differ between batches without the mode, on the CPUs where this was tried."""
    settings = {"model_dtype": "bfloat16", "eval_dtype": "as_trained", "max_new_tokens": 12, "test_examples": 10}
    return small_spec(folders, **{**settings, "batch_invariant": True, **changes})


def choosing_spec(folders: PairFolders, **changes: Any) -> JobSpec:
    mapping = known_mapping("arc_challenge").replace(kind="choice_likelihood")
    settings = {"task": "mapped", "task_mapping": mapping, "task_data": CHOICES, "num_fewshot": 1}
    return half_spec(folders, **{**settings, "train_examples": None, "validation_examples": 1, **changes})


class Bench:
    """A pair of models in half precision with a translator whose weights are noise."""

    def __init__(self, spec: JobSpec) -> None:
        torch.set_num_threads(1)
        splits = load_splits(spec)
        self.examples: list[Example] = list(splits.test)
        self.pair = ModelPair.load(spec, splits, torch.device("cpu")).for_evaluation()
        self.kept: dict[str, Tensor] = {}  # soft tokens of the last call, by the example's id
        self.translator = shaken_translator(self.pair)

    def samples(
        self, indices: list[int], size: int, worker: Worker | None = None, conditions: tuple[str, ...] = CONDITIONS
    ) -> dict[int, dict[str, Any]]:
        """Return the samples of some examples, in this order, by index."""
        evaluator = KeepingEvaluator(self.pair, worker or Worker(), size, NodeCache(None))
        rows = evaluator.evaluate([self.examples[i] for i in indices], self.translator, conditions)
        self.kept = evaluator.kept
        return dict(zip(indices, rows, strict=True))

    def differing(self, conditions: tuple[str, ...] = CONDITIONS) -> int:
        """Return how many samples are not in every batching what they are in one batch of all."""
        everything = list(range(len(self.examples)))
        whole = self.samples(everything, 64, conditions=conditions)
        batchings = [self.samples(everything, size, conditions=conditions) for size in (1, 3)]
        batchings.append(self.samples(everything[9:2:-2], 64, conditions=conditions))
        return sum(row != whole[i] for rows in batchings for i, row in rows.items())


def test_samples_do_not_depend_on_batch_order_and_other_examples(folders: PairFolders) -> None:
    assert Bench(half_spec(folders)).differing() == 0


def test_nor_where_each_row_has_a_cache_of_its_own(folders: PairFolders) -> None:
    spec = half_spec(folders, injection="kv_prefix", test_examples=4, max_new_tokens=6)
    assert Bench(spec).differing(("bridged",)) == 0


@pytest.mark.parametrize("make", [half_spec, choosing_spec])
def test_nor_where_a_source_cache_of_another_length_is_beside_it(
    folders: PairFolders, make: Callable[..., JobSpec]
) -> None:
    """States show it, answers hardly: caches of a batch are padded to the longest, and fused in that shape."""
    changes = {"bridge": "c2c", "injection": "c2c", "geometry_projection": False, "test_examples": 4}
    bench = Bench(make(folders, **changes, max_new_tokens=2))
    fuser = bench.translator.injection.writer
    assert isinstance(fuser, CacheFuser)
    states: list[Tensor] = []
    fuser.layers[0][0].register_forward_hook(lambda _module, _inputs, made: states.append(made))  # type: ignore[index]
    bench.samples([0, 1, 2, 3], 1, conditions=("bridged",))
    alone = list(states)
    assert len({part.shape for part in alone}) > 1
    states.clear()
    bench.samples([0, 1, 2, 3], 64, conditions=("bridged",))
    assert len(states) == len(alone)
    assert all(map(torch.equal, states, alone))


@pytest.mark.parametrize("fixed", [True, False])
def test_soft_tokens_are_the_same_bits_in_every_batch_only_under_the_mode(folders: PairFolders, fixed: bool) -> None:
    bench = Bench(half_spec(folders, batch_invariant=fixed, max_new_tokens=1))
    kept = []
    for part, size in ((list(range(10)), 64), ([9, 4, 7], 64), (list(range(10)), 1)):
        bench.samples(part, size, conditions=("bridged",))
        kept.append(bench.kept)
    same = [torch.equal(tokens, part[name]) for part in kept[1:] for name, tokens in kept[0].items() if name in part]
    assert len(same) == 13
    assert all(same) == fixed


def test_likelihoods_do_not_depend_on_batch_order_and_other_examples(folders: PairFolders) -> None:
    assert Bench(choosing_spec(folders)).differing() == 0


def test_without_the_mode_they_do(folders: PairFolders) -> None:
    """Numbers of twelve digits differ with the batch wherever rounding does; texts only if two tokens are close."""
    assert Bench(choosing_spec(folders, batch_invariant=False)).differing() > 0


def evaluate_share(worker: Worker, spec: JobSpec, out: Path) -> None:
    bench = Bench(spec)
    rows = bench.samples(list(range(len(bench.examples))), 5, worker)
    write_jsonl(out / f"{worker.rank}.jsonl", list(rows.values()))


@pytest.mark.slow
def test_samples_are_the_same_bytes_on_two_workers(folders: PairFolders, tmp_path: Path) -> None:
    spec = half_spec(folders)
    on_workers(2, evaluate_share, spec, tmp_path)
    bench = Bench(spec)
    alone = list(bench.samples(list(range(len(bench.examples))), 64).values())
    assert [read_jsonl(tmp_path / f"{rank}.jsonl") for rank in range(2)] == [alone] * 2


def test_no_rows_have_no_answers(folders: PairFolders) -> None:
    bench = Bench(half_spec(folders))
    evaluator = Evaluator(bench.pair, Worker(), 64, NodeCache(None))
    assert evaluator.baseline(bench.pair.target, "target_alone", [], []) == []


def test_in_float64_it_changes_nothing(folders: PairFolders, tmp_path: Path) -> None:
    """Baselines of both ways are one file in the node's cache."""
    for fixed in (False, True):
        spec = half_spec(folders, batch_invariant=fixed, eval_dtype="float64", max_new_tokens=2, test_examples=2)
        bench = Bench(spec)
        evaluator = Evaluator(bench.pair, Worker(), 64, NodeCache(tmp_path))
        assert evaluator.shapes is None
        evaluator.evaluate(bench.examples, None, ["target_alone"])
    assert len(list(tmp_path.iterdir())) == 1


def rows_of_two_headers() -> list[Row]:
    """Return a row of 1,024 slots and one of 512, which is the longer one with its header."""
    return [Row(before=(), prompt=(5,) * 600), Row(before=(), prompt=(5,) * 1000, header=900)]


def room_for(positions: int) -> Callable[[FrozenLM, int], int]:
    """Return what stands in for a GPU's free memory: room for 64 rows of so many positions."""
    return lambda _lm, slots: 64 * positions // slots


def checked(bench: Bench, worker: Worker, room: int) -> str:
    """Return why the rows are refused on a device with that much room, empty if they are not."""
    evaluator = Evaluator(bench.pair, worker, 64, NodeCache(None))
    limits = Limits(max_new_tokens=12, stops=())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answerer, "uses_graphs", lambda *_: True)
        patch.setattr(graphed, "rows_that_fit", room_for(room))
        try:
            evaluator._check_memory(bench.pair.target, rows_of_two_headers(), limits, BatchShapes(), soft=False)
        except UserError as error:
            return str(error)
    return ""


@pytest.mark.parametrize(("fused", "needed"), [(True, 1024), (False, 900 + 512)])
def test_each_shape_must_fit_and_not_that_of_the_longest_row_alone(
    folders: PairFolders, fused: bool, needed: int
) -> None:
    bench = Bench(half_spec(folders))
    if fused:
        bench.pair.target.fuse()
    assert (bench.pair.target.body is not None) == fused
    assert checked(bench, Worker(), needed) == ""
    assert "does not hold 64 rows" in checked(bench, Worker(), needed - 1)


def check_share(worker: Worker, spec: JobSpec, out: Path) -> None:
    bench = Bench(spec)
    bench.pair.target.fuse()
    (out / str(worker.rank)).write_text(checked(bench, worker, 1024 if worker.rank == 0 else 1023))


@pytest.mark.slow
def test_what_does_not_fit_on_one_worker_is_refused_on_all(folders: PairFolders, tmp_path: Path) -> None:
    on_workers(2, check_share, half_spec(folders), tmp_path)
    refused = [(tmp_path / str(rank)).read_text() for rank in range(2)]
    assert refused[0] == refused[1] != ""


def test_cached_baselines_of_both_ways_are_kept_apart(folders: PairFolders, tmp_path: Path) -> None:
    files = []
    for fixed in (False, True, False):
        bench = Bench(half_spec(folders, batch_invariant=fixed, max_new_tokens=2, test_examples=2))
        evaluator = Evaluator(bench.pair, Worker(), 64, NodeCache(tmp_path))
        evaluator.evaluate(bench.examples, None, ["target_alone"])
        files.append(len(list(tmp_path.iterdir())))
    assert files == [1, 2, 2]


def test_a_job_with_the_mode_is_another_job() -> None:
    assert fingerprint(tiny(batch_invariant=True)) != fingerprint(tiny())
