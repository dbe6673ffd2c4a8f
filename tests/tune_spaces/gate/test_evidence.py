"""Pooling runs of one configuration: exact for equal counts, never narrower than the items allow."""

from pathlib import Path

import numpy as np
import pytest

from bridge_common import files
from bridge_common.intervals import wilson
from tune_spaces.gate.evidence import pool
from tune_spaces.gate.outcome import Outcome


def run(folder: Path, correct: "list[bool] | np.ndarray", first: int = 0) -> Outcome:
    folder.mkdir()
    rows = [{"id": f"q{first + i}", "bridged_correct": bool(c)} for i, c in enumerate(correct)]
    files.write_jsonl(folder / "samples.jsonl", rows)
    return Outcome(accuracy=float(np.mean(correct)), correct=int(sum(correct)), n=len(rows), folder=str(folder))


def test_one_run_has_wilsons_interval(tmp_path: Path) -> None:
    evidence = pool([run(tmp_path / "a", [True] * 140 + [False] * 60)])
    assert evidence.accuracy == 0.7
    assert (evidence.low, evidence.high) == pytest.approx(wilson(140, 200))


def test_the_same_answers_twice_count_as_one_run(tmp_path: Path) -> None:
    answers = [True] * 140 + [False] * 60
    one, two = run(tmp_path / "a", answers), run(tmp_path / "b", answers)
    assert pool([one, two]).high - pool([one, two]).low == pytest.approx(pool([one]).high - pool([one]).low, rel=0.01)


def test_independent_answers_to_the_same_items_narrow_the_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = [run(tmp_path / str(seed), rng.random(1000) < 0.7) for seed in range(4)]
    width = pool(runs).high - pool(runs).low
    single = pool(runs[:1]).high - pool(runs[:1]).low
    assert width == pytest.approx(single / 2, rel=0.1)
    assert pool(runs).n == 1000
    assert pool(runs).runs == 4


def test_counts_pool_exactly_at_the_boundary() -> None:
    runs = [Outcome(accuracy=k / 10, correct=k, n=10) for k in (6, 7, 8)]
    assert pool(runs).accuracy == 0.7


def test_without_samples_items_count_once() -> None:
    runs = [Outcome(accuracy=0.7, correct=140, n=200)] * 3
    assert pool(runs).effective_n == 200


def test_more_items_widen_what_is_known(tmp_path: Path) -> None:
    few, more = run(tmp_path / "a", [True] * 7 + [False] * 3), run(tmp_path / "b", [True] * 28 + [False] * 12)
    evidence = pool([few, more])
    assert evidence.n == 40
    assert evidence.high - evidence.low < pool([few]).high - pool([few]).low


def test_no_run_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no finished run"):
        pool([Outcome(accuracy=None)])
