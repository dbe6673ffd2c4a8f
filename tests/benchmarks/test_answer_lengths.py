"""Answers of real lengths end where they were drawn to end, alike in every way to decode, and cost fewer tokens."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from benchmarks.answer_lengths import (
    LIMIT,
    MEDIAN,
    full_length_answers,
    real_length,
    real_length_answers,
    time_both_lengths,
)
from benchmarks.decoding import decode_by
from benchmarks.harness import default_device
from benchmarks.random_models import Rig, bench_spec, rows_of
from ray_bridge.generation import graphed, graphed_batch, kv_caches
from ray_bridge.generation.generate import decode_rows
from ray_bridge.generation.graphed_batch import GraphedBatch
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inputs.rows import Row
from ray_bridge.tasks.gsm8k import GSM8K

NEW = 48


@pytest.fixture(scope="module")
def rig() -> Rig:
    rig = Rig("tiny", default_device(), "target")
    rig.models["target"].fuse()
    return rig


@pytest.fixture(autouse=True)
def frequent_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", 4)


def rows(rig: Rig) -> list[Row]:
    return rows_of(rig.models["target"], 8, 40, header=20)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Return how many rows the steps of the fixed cache have read, those that have ended included."""
    read: list[int] = []
    step = kv_caches.FusedCache.step

    def counted(cache: kv_caches.FusedCache, embeds: object) -> object:
        read.append(len(embeds))  # type: ignore[arg-type]
        return step(cache, embeds)  # type: ignore[arg-type]

    monkeypatch.setattr(kv_caches.FusedCache, "step", counted)
    yield lambda: sum(read)
    read.clear()


def test_lengths_are_those_of_solutions_and_are_cut_at_the_limit() -> None:
    drawn = np.array([real_length(Row(before=(1,), prompt=(i,)), LIMIT) for i in range(3000)])
    assert abs(np.median(drawn) - MEDIAN) < 4
    assert abs(np.log(drawn).std() - 0.41) < 0.02  # a little less than before the cut
    assert drawn.max() == LIMIT
    assert 0.02 < (drawn == LIMIT).mean() < 0.06
    assert real_length(Row(before=(1,), prompt=(5, 6)), LIMIT) == real_length(Row(before=(), prompt=(1, 5, 6)), LIMIT)


@pytest.mark.parametrize("way", ["graphed", "transformers", "eager", "sampled", "eager sampled"])
def test_each_row_ends_at_its_length_and_leaves(rig: Rig, way: str) -> None:
    given, statistics, target = rows(rig), DecodingStatistics(), rig.models["target"]
    expected, ends, stopping = [real_length(row, NEW) for row in given], target.ends, Stopping.of
    assert len(set(expected)) > 4
    with full_length_answers(rig):
        whole = decode_by(target, given, NEW, way, statistics)
    assert [len(ids) for ids in whole] == [NEW] * len(given)
    assert statistics.retired == 0
    with real_length_answers([target]):
        short = decode_by(target, given, NEW, way, statistics)
    assert [len(ids) for ids in short] == expected
    # Apart from the id that ends it, an answer is what the model writes anyway.
    assert [ids[:-1] for ids in short] == [ids[: len(own) - 1] for ids, own in zip(whole, short, strict=True)]
    assert (statistics.retired > 0) == (not way.startswith("eager"))
    assert (target.ends, Stopping.of) == (ends, stopping)


def test_a_cache_reads_fewer_rows(rig: Rig, steps: Callable[[], int]) -> None:
    given, target = rows(rig), rig.models["target"]
    with full_length_answers(rig):
        decode_by(target, given, NEW, "graphed", DecodingStatistics())
    full = steps()
    with real_length_answers([target]):
        decode_by(target, given, NEW, "graphed", DecodingStatistics())
    assert full == len(given) * (NEW - 1)
    assert steps() - full < 0.8 * full


def test_other_rows_and_other_ways_in_have_the_same_lengths(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    given, target = rows(rig), rig.models["target"]
    expected = [real_length(row, NEW) for row in given]
    with real_length_answers([target]):
        eager = decode_rows(target, given[::-1], None, NEW, stops=(" ",))
        assert [len(ids) for ids in eager] == expected[::-1]
        monkeypatch.setattr(graphed, "rows_that_fit", lambda *_: 3)
        for way, batches, refilled in (("graphed", 1, 5), ("transformers", 3, 0)):
            statistics = DecodingStatistics()
            batched = decode_by(target, given, NEW, way, statistics)
            assert [len(ids) for ids in batched] == expected
            assert (statistics.batches, statistics.refilled) == (batches, refilled)


def test_both_lengths_are_timed(rig: Rig) -> None:
    given, target = rows(rig), rig.models["target"]

    def answer() -> int:
        return sum(len(ids) for ids in decode_by(target, given, NEW, "graphed", DecodingStatistics()))

    append = GraphedBatch._append
    found = time_both_lengths(rig, answer)
    assert found["full_tokens"] == len(given) * NEW
    assert found["real_tokens"] == sum(real_length(row, NEW) for row in given)
    assert found["ratio"] == pytest.approx(found["real_s"] / found["full_s"], rel=0.1)
    assert GraphedBatch._append is append


def test_the_papers_job_answers_in_as_many_tokens_as_gsm8k() -> None:
    """Not in as many as the task of the random text would take."""
    assert bench_spec("paper").max_new_tokens == LIMIT == GSM8K.max_new_tokens
