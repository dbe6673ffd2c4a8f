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
    assert (evidence.n, evidence.effective_n, evidence.runs) == (200, 200, 1)


def test_the_same_answers_twice_count_as_one_run(tmp_path: Path) -> None:
    answers = [True] * 140 + [False] * 60
    one, two = run(tmp_path / "a", answers), run(tmp_path / "b", answers)
    assert pool([one, two]).high - pool([one, two]).low == pytest.approx(pool([one]).high - pool([one]).low, rel=0.01)


def test_the_same_answers_twice_are_worth_no_fewer_items_than_there_are(tmp_path: Path) -> None:
    """The unbiased variance of equal answers alone would say 199."""
    answers = [True] * 140 + [False] * 60
    assert pool([run(tmp_path / "a", answers), run(tmp_path / "b", answers)]).effective_n == 200


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


def test_the_effective_number_of_items_by_hand(tmp_path: Path) -> None:
    """Means 1, 1, 1/2 and 0: variance 11/48, a quarter of it for the mean; 15/64 over 11/192 are 45/11 items."""
    runs = [run(tmp_path / "a", [True, True, True, False]), run(tmp_path / "b", [True, True, False, False])]
    evidence = pool(runs)
    assert evidence.accuracy == 5 / 8
    assert evidence.effective_n == pytest.approx(45 / 11)
    assert (evidence.low, evidence.high) == pytest.approx(wilson(5 / 8 * 45 / 11, 45 / 11))


def test_two_items_have_a_variance(tmp_path: Path) -> None:
    """Means 1 and 1/2: variance 1/8, half of it for the mean; 3/16 over 1/16 are 3 items."""
    assert pool([run(tmp_path / "a", [True, True]), run(tmp_path / "b", [True, False])]).effective_n == 3


def test_two_runs_are_worth_at_most_their_answers(tmp_path: Path) -> None:
    """Answers that disagree on every item have means that do not vary at all."""
    runs = [run(tmp_path / "a", [True, False] * 5), run(tmp_path / "b", [False, True] * 5)]
    assert pool(runs).effective_n == 10
    almost = [run(tmp_path / "c", [True, False] * 5), run(tmp_path / "d", [False, True] * 4 + [True, True])]
    assert pool(almost).effective_n == 20


@pytest.mark.parametrize("answer", [True, False])
def test_answers_that_are_all_alike_count_each_item_once(tmp_path: Path, answer: bool) -> None:
    evidence = pool([run(tmp_path / "a", [answer] * 9), run(tmp_path / "b", [answer] * 9)])
    assert (evidence.accuracy, evidence.effective_n) == (float(answer), 9)
    assert (evidence.low, evidence.high) == pytest.approx(wilson(9 * answer, 9))


def test_one_item_can_be_pooled(tmp_path: Path) -> None:
    evidence = pool([run(tmp_path / "a", [True]), run(tmp_path / "b", [False])])
    assert (evidence.accuracy, evidence.n, evidence.effective_n) == (0.5, 1, 1)


def test_items_of_unequal_runs_weigh_alike(tmp_path: Path) -> None:
    """q0 was asked twice, q1 once: the accuracy is that of the items, not of the answers."""
    evidence = pool([run(tmp_path / "a", [False]), run(tmp_path / "b", [False, True])])
    assert evidence.accuracy == 0.5
    assert evidence.n == 2


def test_the_level_is_that_of_the_interval(tmp_path: Path) -> None:
    answers = [True] * 7 + [False] * 3
    one = run(tmp_path / "a", answers)
    evidence = pool([one], level=0.8)
    assert (evidence.low, evidence.high) == pytest.approx(wilson(7, 10, 0.8))
    evidence = pool([one, run(tmp_path / "b", answers)], level=0.8)
    assert (evidence.low, evidence.high) == pytest.approx(wilson(7, 10, 0.8))


def test_nothing_counted_is_nothing_known() -> None:
    evidence = pool([Outcome(accuracy=0.0, correct=0, n=0)])
    assert (evidence.accuracy, evidence.low, evidence.high, evidence.n) == (0.0, 0.0, 1.0, 0)
    for runs in ([Outcome(accuracy=0.4)], [Outcome(accuracy=0.4), Outcome(accuracy=0.6)]):
        evidence = pool(runs)
        assert (evidence.low, evidence.high, evidence.n, evidence.effective_n) == (0.0, 1.0, 0, 0.0)


def test_runs_without_counts_are_pooled_by_their_accuracies(tmp_path: Path) -> None:
    """A folder without samples, items that one job did not report, and a run that answered nothing correctly."""
    runs = [Outcome(accuracy=0.5, n=10, folder=str(tmp_path)), Outcome(accuracy=0.0), Outcome(accuracy=0.25, n=10)]
    evidence = pool(runs)
    assert evidence.accuracy == 0.25
    assert (evidence.n, evidence.effective_n, evidence.runs) == (10, 10, 3)
    assert pool([Outcome(accuracy=0.5, n=10), Outcome(accuracy=0.25, n=10)]).accuracy == 0.375
    counted = [Outcome(accuracy=0.0, correct=0, n=10), Outcome(accuracy=0.5, correct=5, n=10)]
    assert pool(counted).accuracy == 0.25


def test_no_run_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no finished run"):
        pool([Outcome(accuracy=None)])
