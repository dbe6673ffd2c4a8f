"""Pooling runs of one configuration: exact for equal counts, never narrower than the items allow."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bridge_common import files
from bridge_common.intervals import score_interval_of, wilson
from tune_spaces.gate.evidence import Evidence, evidence_of, pool
from tune_spaces.gate.outcome import Outcome


def run(folder: Path, correct: "list[bool] | np.ndarray", first: int = 0, cluster: int = 1) -> Outcome:
    """Write the answers of a run, of which every `cluster` in a row belong together."""
    folder.mkdir()
    rows: list[dict[str, Any]] = [{"id": f"q{first + i}", "bridged_correct": bool(c)} for i, c in enumerate(correct)]
    if cluster > 1:
        rows = [row | {"cluster": f"template {i // cluster}"} for i, row in enumerate(rows)]
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
    """Means 1, 1, 1/2 and 0: their variance, 11/64, is 11/15 of 15/64, that of single answers.

    8 answers of variance 15/64 weigh 15/8; a quarter of an answer stands for items that are answered alike.
    """
    runs = [run(tmp_path / "a", [True, True, True, False]), run(tmp_path / "b", [True, True, False, False])]
    evidence = pool(runs)
    assert evidence.accuracy == 5 / 8
    design = (15 / 8 * 11 / 15 + 1 / 4) / (15 / 8 + 1 / 4)
    assert evidence.effective_n == pytest.approx(4 / design)
    assert (evidence.low, evidence.high) == pytest.approx(wilson(5 / 8 * 4 / design, 4 / design))


def test_two_runs_are_worth_at_most_their_answers(tmp_path: Path) -> None:
    """Answers that disagree on every item have means that do not vary at all; one answer more changes nothing then."""
    runs = [run(tmp_path / "a", [True, False] * 5), run(tmp_path / "b", [False, True] * 5)]
    assert pool(runs).effective_n == 20
    almost = [run(tmp_path / "c", [True, False] * 5), run(tmp_path / "d", [False, True] * 4 + [True, True])]
    assert pool(almost).effective_n == 20


@pytest.mark.parametrize("answer", [True, False])
def test_answers_that_are_all_alike_count_each_item_once(tmp_path: Path, answer: bool) -> None:
    evidence = pool([run(tmp_path / "a", [answer] * 9), run(tmp_path / "b", [answer] * 9)])
    assert (evidence.accuracy, evidence.effective_n) == (float(answer), 9)
    assert (evidence.low, evidence.high) == pytest.approx(wilson(9 * answer, 9))


def test_one_item_can_be_pooled(tmp_path: Path) -> None:
    evidence = pool([run(tmp_path / "a", [True]), run(tmp_path / "b", [False])])
    assert (evidence.accuracy, evidence.n, evidence.effective_n) == (0.5, 1, 2)


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


def test_clusters_that_are_all_right_or_all_wrong_count_as_one_item_each(tmp_path: Path) -> None:
    """10 clusters of 20 items each: with 10 times more clusters of 2 items the interval is far narrower."""
    answers = np.repeat([True] * 7 + [False] * 3, 20)
    evidence = pool([run(tmp_path / "a", answers, cluster=20)])
    assert (evidence.n, evidence.clusters, evidence.runs) == (200, 10, 1)
    assert evidence.accuracy == 0.7
    assert evidence.effective_n == pytest.approx(9, abs=0.1)
    low, high = score_interval_of(0.7, evidence.effective_n, float(stats.t.ppf(0.975, 9)))
    assert (evidence.low, evidence.high) == pytest.approx((low, high))
    many = pool([run(tmp_path / "b", np.repeat([True] * 70 + [False] * 30, 2), cluster=2)])
    assert many.high - many.low < (evidence.high - evidence.low) / 3
    assert pool([run(tmp_path / "c", answers)]).clusters is None, "items without a cluster are independent"


def test_clusters_hold_for_several_runs_too(tmp_path: Path) -> None:
    answers = np.repeat([True] * 7 + [False] * 3, 20)
    runs = [run(tmp_path / str(i), answers, cluster=20) for i in range(3)]
    assert pool(runs).clusters == 10
    assert pool(runs).effective_n == pytest.approx(9, abs=0.1)


def test_the_gates_interval_covers_the_truth_with_clusters(tmp_path: Path) -> None:
    """600 items of 60 templates whose accuracies differ: as if items were independent it would cover 75 %."""
    rng = np.random.default_rng(2)
    hits, independent, repeats = 0, 0, 200
    for repeat in range(repeats):
        answers = rng.random(600) < np.repeat(rng.beta(7 * 0.5, 3 * 0.5, 60), 10)
        found = pool([run(tmp_path / str(repeat), answers, cluster=10)])
        hits += found.low <= 0.7 <= found.high
        low, high = wilson(int(answers.sum()), 600)
        independent += low <= 0.7 <= high
    assert 0.92 <= hits / repeats <= 0.985
    assert independent / repeats < 0.85


def look(answers: np.ndarray, clusters: np.ndarray, earlier: Evidence | None = None) -> Evidence:
    """Return what runs that answered the same items say, (runs, items)."""
    accuracy, runs = float(answers.mean()), len(answers)
    settings = {"accuracy": accuracy, "answers": answers.size, "clusters": clusters, "runs": runs, "level": 0.9875}
    return evidence_of(answers.mean(axis=0), earlier=earlier, **settings)  # type: ignore[arg-type]


def test_no_further_run_lets_the_gate_know_less() -> None:
    """The items that runs are worth never get fewer, so that at the same accuracy no look is wider than one before."""
    rng = np.random.default_rng(3)
    fewer = 0
    for _ in range(400):
        size, groups = int(rng.integers(2, 12)), int(rng.integers(2, 15))
        clusters, rates = np.repeat(np.arange(groups), size), np.repeat(rng.beta(1.5, 0.8, groups), size)
        answers = np.array([rng.random(groups * size) < rates ** (0.5 + rng.random()) for _ in range(4)])
        known = [look(answers[:1], clusters)]
        for count in (2, 3, 4):
            before, after = known[-1], look(answers[:count], clusters, known[-1])
            assert after.effective_n >= before.effective_n
            assert after.quantile <= before.quantile
            low, high = score_interval_of(after.accuracy, before.effective_n, before.quantile)
            assert low <= after.low + 1e-12
            assert after.high <= high + 1e-12
            known.append(after)
        fewer += any(look(answers[:count], clusters).effective_n < known[count - 2].effective_n for count in (2, 3, 4))
    assert fewer > 50, "by themselves, the runs of a look are often worth fewer items than those of the one before"


@pytest.mark.parametrize("cluster", [1, 6])
@pytest.mark.parametrize("seeds", [1, 3])
def test_as_many_items_again_that_are_answered_alike_narrow_the_interval(
    tmp_path: Path, seeds: int, cluster: int
) -> None:
    rng = np.random.default_rng(4)
    for campaign in range(6):
        rates = np.repeat(rng.beta(1.5, 0.8, 48 // cluster), cluster)
        answers = rng.random((seeds, 48)) < rates
        known = [
            pool([run(tmp_path / f"{campaign}-{times}-{i}", np.tile(a, times), cluster=cluster)
                  for i, a in enumerate(answers)])
            for times in (1, 2, 5)
        ]  # fmt: skip
        for few, many in pairwise(known):
            assert many.accuracy == pytest.approx(few.accuracy)
            assert few.low <= many.low <= many.high <= few.high


def test_an_item_more_moves_both_bounds_towards_its_answer(tmp_path: Path) -> None:
    for n in range(1, 25):
        for right in range(n + 1):
            one, better, worse = (
                pool([Outcome(accuracy=c / m, correct=c, n=m)])
                for c, m in ((right, n), (right + 1, n + 1), (right, n + 1))
            )
            assert worse.low <= one.low <= better.low
            assert worse.high <= one.high <= better.high


def test_no_run_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no finished run"):
        pool([Outcome(accuracy=None)])
