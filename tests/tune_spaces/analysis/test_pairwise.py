"""Comparison of runs, with the figures of the reference runs first."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tune_spaces.analysis.estimates import Cells
from tune_spaces.analysis.noise_floor import NoiseFloor
from tune_spaces.analysis.paired_comparison import PairedComparison
from tune_spaces.analysis.paired_tests import adjust, mcnemar_exact, minimum_detectable_effect, paired_interval
from tune_spaces.analysis.pairwise import compare_pairs, compare_runs
from tune_spaces.analysis.samples import Samples, load_samples
from tune_spaces.analysis.verdicts import verdict

REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "data" / "reference_runs"


def write_run(path: Path, correct: np.ndarray, invalid: int = 0) -> Samples:
    answers = ["1" if flag else "2" for flag in correct]
    wrong = [i for i, flag in enumerate(correct) if not flag]
    for i in wrong[:invalid]:
        answers[i] = ""
    rows = [{"index": i, "gold": "1", "bridged_answer": answer} for i, answer in enumerate(answers)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_samples(path)


def reference_like(tmp_path: Path) -> dict[str, Samples]:
    """Return two made-up runs with the counts of the reference: 129 and 125 of 200, 14 : 10 discordant."""
    full, other = np.zeros(200, bool), np.zeros(200, bool)
    full[:129] = True
    other[14:139] = True
    return {"full": write_run(tmp_path / "f.jsonl", full, 15), "B": write_run(tmp_path / "b.jsonl", other, 11)}


def check_reference(runs: dict[str, Samples], b: str) -> None:
    comparison = compare_runs(runs).as_json()
    assert set(comparison) == {"runs", "pairs", "verdict"}
    full, other = comparison["runs"]["full"], comparison["runs"][b]
    assert (full["correct"], full["n"], full["invalid"]) == (129, 200, 15)
    assert (full["accuracy"], full["ci_low"], full["ci_high"]) == pytest.approx((0.645, 0.5765, 0.7080), abs=5e-5)
    assert (other["correct"], other["ci_low"], other["ci_high"]) == pytest.approx((125, 0.5561, 0.6891), abs=5e-5)
    (pair,) = comparison["pairs"]
    assert set(pair) == {"a", "b", "n10", "n01", "difference", "ci_low", "ci_high", "p_mcnemar", "p_adjusted"}
    assert (pair["a"], pair["b"], pair["n10"], pair["n01"]) == ("full", b, 14, 10)
    assert pair["difference"] == pytest.approx(0.02)
    assert pair["ci_low"] < 0 < pair["ci_high"]
    assert pair["p_mcnemar"] == pair["p_adjusted"] == pytest.approx(0.541, abs=5e-4)
    (sentence,) = comparison["verdict"]
    assert sentence.startswith(f"full against {b}: no difference was shown")
    assert "200 items could have shown a difference of 7." in sentence
    json.dumps(comparison, allow_nan=False)


def test_counts_of_the_reference(tmp_path: Path) -> None:
    check_reference(reference_like(tmp_path), "B")


@pytest.mark.skipif(not REFERENCE.exists(), reason="reference runs are not beside this checkout")
def test_the_reference_runs() -> None:
    check_reference({name: load_samples(REFERENCE / f"{name}.jsonl") for name in ("full", "ablation_b")}, "ablation_b")


def test_a_true_difference_is_reported_with_its_direction(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    low = rng.random(300) < 0.5
    runs = {
        "low": write_run(tmp_path / "l.jsonl", low),
        "high": write_run(tmp_path / "h.jsonl", low | (rng.random(300) < 0.3)),
    }
    (sentence,) = compare_runs(runs).verdict
    assert sentence.startswith("low against high: high is more accurate")


def test_one_run_has_no_pair_and_three_have_three_corrected_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    runs = {name: write_run(tmp_path / f"{name}.jsonl", rng.random(100) < 0.6) for name in "abc"}
    alone = compare_runs({"a": runs["a"]})
    assert (len(alone.runs), alone.pairs, alone.verdict) == (1, [], [])
    three = compare_runs(runs)
    assert [(pair.a, pair.b) for pair in three.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    smallest = min(pair.p for pair in three.pairs)
    assert min(pair.p_adjusted for pair in three.pairs) == pytest.approx(min(1, 3 * smallest))
    assert "3 comparisons" in three.verdict[0]


def test_equal_runs(tmp_path: Path) -> None:
    same = write_run(tmp_path / "a.jsonl", np.arange(50) < 30)
    (pair,) = compare_runs({"a": same, "b": same}).pairs
    assert (pair.difference, pair.p, pair.n10, pair.n01) == (0, 1, 0, 0)
    assert pair.ci_low < 0 < pair.ci_high


def test_several_seeds_use_students_t() -> None:
    rng = np.random.default_rng(3)
    cells = {"a": rng.random((3, 400)) < 0.8, "b": rng.random((3, 400)) < 0.6, "c": rng.random((1, 400)) < 0.6}
    ab, bc = compare_pairs(cells, [("a", "b"), ("b", "c")])
    assert ab.test == bc.test == "Student's t"
    assert (ab.runs, bc.runs) == (3, 1)
    assert ab.shown
    assert ab.ci_low < ab.difference < ab.ci_high
    assert ab.difference == pytest.approx(float(cells["a"].mean() - cells["b"].mean()))
    assert not bc.shown
    assert "no difference was shown" in verdict(bc)


def test_a_pair_is_the_same_alone_and_among_others() -> None:
    """Except that a single run beside several seeds has the variance of all others' seeds."""
    rng = np.random.default_rng(4)
    seeds = {"a": 1, "b": 1, "c": 3, "d": 1, "e": 2}
    cells = {name: rng.random((count, 300)) < 0.6 for name, count in seeds.items()}
    wanted = [("a", "b"), ("b", "d"), ("c", "e"), ("d", "a")]
    together = compare_pairs(cells, wanted)
    assert [pair.test == "exact McNemar" for pair in together] == [True, True, False, True]
    for pair in together:
        (alone,) = compare_pairs({name: cells[name] for name in (pair.b, pair.a)}, [(pair.a, pair.b)])
        for field in ("n10", "n01", "difference", "ci_low", "ci_high", "p"):
            assert getattr(alone, field) == getattr(pair, field)
    first = together[0]
    assert (first.ci_low, first.ci_high) == paired_interval(first.n10, first.n01, 300)
    assert first.p == mcnemar_exact(first.n10, first.n01)


def test_what_could_have_been_detected_depends_on_the_size_of_the_family() -> None:
    rng = np.random.default_rng(5)
    cells = {name: rng.random((1, 300)) < 0.6 for name in "abcd"}
    (alone,) = compare_pairs(cells, [("a", "b")])
    first, *_ = family = compare_pairs(cells, [("a", "b"), ("a", "c"), ("a", "d")])
    discordance = (first.n10 + first.n01) / 300
    assert alone.detectable == minimum_detectable_effect(300, discordance, alpha=0.05)
    assert first.detectable == minimum_detectable_effect(300, discordance, alpha=0.05 / 3)
    assert len(family) == 3


def test_what_several_seeds_could_have_shown_depends_on_the_size_of_the_family() -> None:
    rng = np.random.default_rng(6)
    cells = {name: rng.random((3, 400)) < 0.6 for name in "abcd"}
    (alone,) = compare_pairs(cells, [("a", "b")])
    first, *others = compare_pairs(cells, [("a", "b"), ("a", "c"), ("a", "d")])
    effect = Cells.of(cells).contrast({"a": 1.0, "b": -1.0})
    assert alone.detectable == effect.detectable(0.05)
    assert first.detectable == effect.detectable(0.05 / 3)
    assert first.detectable > 1.1 * effect.detectable(0.05)
    assert {first.comparisons, *(pair.comparisons for pair in others)} == {3}
    assert alone.comparisons == 1


def test_more_items_do_not_reduce_what_seeds_add_to_the_error() -> None:
    """A quarter of the squared error is the seeds': a difference of half the detectable one is out of reach."""
    values = {"difference": 0.03, "detectable": 0.04, "runs": 3, "test": "Student's t", "p_adjusted": 0.2}
    items = comparison(**values)
    assert items.items_needed == math.ceil(1000 * (4 / 3) ** 2)
    seeds = comparison(**values, item_share=0.75)
    assert seeds.items_needed == math.ceil(1000 * 0.75 / ((3 / 4) ** 2 - 0.25))
    none = comparison(**{**values, "difference": 0.02}, item_share=0.75)
    assert none.items_needed is None
    assert verdict(none).endswith("one of 2.0 points is not reachable with 3 seeds, whatever the number of items.")
    alone = comparison(**{**values, "difference": 0.02, "runs": 1}, item_share=0.75)
    assert "not reachable with one seed, whatever" in verdict(alone)
    rng = np.random.default_rng(12)
    cells = {name: rng.random((3, 500)) < 0.6 + rng.normal(0, 0.08, (3, 1)) for name in "ab"}
    (pair,) = compare_pairs(cells, [("a", "b")])
    assert pair.item_share == Cells.of(cells).contrast({"a": 1.0, "b": -1.0}).item_share < 0.6


def test_a_difference_within_the_noise_floor_is_not_shown() -> None:
    rng = np.random.default_rng(15)
    cells = {"a": rng.random((1, 1000)) < 0.7, "b": rng.random((1, 1000)) < 0.6}
    for typical in (0.05, 0.2):
        floor = NoiseFloor(typical=typical, largest=1.0, deviation=0.1, pairs=1, degrees_of_freedom=1)
        (pair,) = compare_pairs(cells, [("a", "b")], floor=floor)
        assert pair.p_adjusted < 0.05
        assert pair.floor == typical
        assert (pair.shown, pair.within_floor) == (typical == 0.05, typical == 0.2)
        assert pair.turned().shown is pair.shown
        assert ("so it is no finding" in verdict(pair)) is pair.within_floor


def test_a_turned_comparison_is_that_of_the_other_with_the_one() -> None:
    rng = np.random.default_rng(16)
    cells = {"a": rng.random((1, 300)) < 0.7, "b": rng.random((1, 300)) < 0.6}
    (pair,) = compare_pairs(cells, [("a", "b")])
    (other,) = compare_pairs(cells, [("b", "a")])
    turned = pair.turned()
    for name in ("a", "b", "accuracy_a", "accuracy_b", "n10", "n01", "p", "detectable"):
        assert getattr(turned, name) == getattr(other, name)
    assert (turned.difference, turned.ci_low, turned.ci_high) == pytest.approx(
        (other.difference, other.ci_low, other.ci_high)
    )


def gain_cells() -> dict[str, np.ndarray]:
    """Return two variants with baselines of their own: gains of 0.5 and 0.1 on 200 items, two seeds of the first."""
    rng = np.random.default_rng(9)

    def exactly(share: float) -> np.ndarray:
        return rng.permutation(200) < round(200 * share)

    return {
        "a": np.stack([exactly(0.8), exactly(0.6)]),
        "a alone": np.stack([exactly(0.2), exactly(0.2)]),
        "b": exactly(0.5)[None],
        "b alone": exactly(0.4)[None],
    }


def test_gains_are_compared_and_not_accuracies() -> None:
    cells = gain_cells()
    (pair,) = compare_pairs(cells, [("a", "b")], gains={("a", "b"): ("a alone", "b alone")}, margin=0.6)
    effect = Cells.of(cells).contrast({"a": 1.0, "a alone": -1.0, "b": -1.0, "b alone": 1.0})
    assert (pair.accuracy_a, pair.accuracy_b, pair.difference) == pytest.approx((0.5, 0.1, 0.4))
    assert (pair.difference, pair.ci_low, pair.ci_high, pair.p) == (
        effect.estimate,
        effect.low,
        effect.high,
        effect.p,
    )
    assert (pair.quantity, pair.test, pair.runs, pair.n, pair.clusters) == ("gain", "Student's t", 1, 200, 200)
    assert (pair.n10, pair.n01, pair.with_seeds) == (0, 0, True)
    low, high = effect.interval(0.9)
    for margin in (high + 0.001, high - 0.001):
        (pair,) = compare_pairs(cells, [("a", "b")], gains={("a", "b"): ("a alone", "b alone")}, margin=margin)
        assert (pair.margin, pair.equivalent) == (margin, margin > high)
    assert high > abs(low), "the upper end decides"


def test_two_variants_with_one_baseline_differ_as_their_accuracies_do() -> None:
    cells = gain_cells()
    (pair,) = compare_pairs(cells, [("a", "b")], gains={("a", "b"): ("b alone", "b alone")})
    effect = Cells.of(cells).contrast({"a": 1.0, "b": -1.0})
    assert pair.difference == pytest.approx(0.2)
    assert (pair.difference, pair.p) == pytest.approx((effect.estimate, effect.p))
    assert (pair.accuracy_a, pair.accuracy_b) == pytest.approx((0.3, 0.1))


@pytest.mark.parametrize("swapped", [False, True])
def test_a_pair_is_equivalent_if_its_90_percent_interval_lies_within_the_margin_at_both_ends(swapped: bool) -> None:
    first, second = np.zeros(400, bool), np.zeros(400, bool)
    first[:210] = True
    second[12:214] = True
    cells = {"a": first[None], "b": second[None]}
    wanted = ("b", "a") if swapped else ("a", "b")
    n10, n01 = (4, 12) if swapped else (12, 4)
    low, high = paired_interval(n10, n01, 400, 0.9)
    farthest = max(abs(low), abs(high))
    for margin, equivalent in ((farthest + 1e-6, True), (farthest - 1e-6, False), (farthest, False)):
        (pair,) = compare_pairs(cells, [wanted], margin=margin)
        assert (pair.n10, pair.n01) == (n10, n01)
        assert pair.equivalent is equivalent
    assert min(abs(low), abs(high)) < farthest - 0.01, "one end alone decides"


def test_several_seeds_are_equivalent_by_their_90_percent_interval() -> None:
    rng = np.random.default_rng(11)
    cells = {"a": rng.random((3, 400)) < 0.6, "b": rng.random((3, 400)) < 0.6}
    low, high = Cells.of(cells).contrast({"a": 1.0, "b": -1.0}).interval(0.9)
    farthest = max(abs(low), abs(high))
    for margin in (farthest + 1e-6, farthest - 1e-6):
        (pair,) = compare_pairs(cells, [("a", "b")], margin=margin)
        assert pair.equivalent is (margin > farthest)


def comparison(**changes: object) -> PairedComparison:
    values: dict[str, object] = {
        "a": "full",
        "b": "B",
        "n": 1000,
        "clusters": 1000,
        "runs": 1,
        "accuracy_a": 0.7,
        "accuracy_b": 0.6,
    }
    values |= {"n10": 150, "n01": 50, "difference": 0.1, "ci_low": 0.07, "ci_high": 0.13, "p": 0.0123}
    values |= {"p_adjusted": 0.0246, "test": "exact McNemar", "detectable": 0.0412}
    return PairedComparison(**{**values, **changes})  # type: ignore[arg-type]


FIGURES = (
    "70.0 % against 60.0 %, difference +10.0 points, 95 % interval [+7.0, +13.0], 150 : 50 discordant, "
    "exact McNemar p = 0.0123"
)


def test_the_sentence_of_a_pair_that_was_shown() -> None:
    assert verdict(comparison()) == (
        f"full against B: full is more accurate than B on these items ({FIGURES}, n = 1000)."
    )
    assert verdict(comparison(comparisons=2)) == (
        f"full against B: full is more accurate than B on these items ({FIGURES}, 0.0246 after correction for 2 "
        "comparisons, n = 1000)."
    )
    assert "0.0246 after correction for 2 of the plan's questions" in verdict(comparison(comparisons=2, asked=True))
    assert "B is more accurate than full" in verdict(comparison(difference=-0.1))


def test_the_sentence_of_a_pair_that_was_not_shown_says_what_is_excluded_and_what_it_would_take() -> None:
    assert verdict(comparison(p_adjusted=0.05)) == (
        f"full against B: no difference was shown ({FIGURES}, n = 1000); differences beyond 13.0 points are excluded; "
        "at this rate of discordance, 1000 items could have shown a difference of 4.1 points or more with 80 % power."
    )
    assert verdict(comparison(p_adjusted=0.06, detectable=None, ci_low=-0.14)).endswith(
        "n = 1000); differences beyond 14.0 points are excluded; 1000 items are too few to show any difference."
    )
    small = {"difference": -0.02, "detectable": 0.04, "p_adjusted": 0.2, "clusters": 50}
    assert "n = 1000 in 50 clusters)" in verdict(comparison(**small))
    assert verdict(comparison(**small)).endswith("; one of 2.0 points would need about 4000 items.")
    margin = {**small, "margin": 0.05}
    per_comparison = (
        "; equivalent within the declared margin of 5.0 points (two one-sided tests at 5 %, per comparison); "
    )
    assert per_comparison in verdict(comparison(**margin, equivalent=True))
    assert per_comparison.replace("equivalent", "not shown to be equivalent") in verdict(
        comparison(**margin, equivalent=False)
    )


def test_the_sentence_of_two_gains() -> None:
    gains = {"quantity": "gain", "accuracy_a": 0.2, "accuracy_b": -0.05, "test": "Student's t", "n10": 0, "n01": 0}
    assert verdict(comparison(**gains)) == (
        "full against B (gains over the target alone, since the two answer with other models): full gains more than B "
        "on these items (+20.0 points against -5.0 points, difference +10.0 points, 95 % interval [+7.0, +13.0], "
        "Student's t p = 0.0123, n = 1000)."
    )
    assert "; with this spread, 1000 items could have shown a difference of 4.1 points" in verdict(
        comparison(**gains, p_adjusted=0.3)
    )


def test_two_seeds_are_several() -> None:
    rng = np.random.default_rng(7)
    cells = {"a": rng.random((2, 100)) < 0.6, "b": rng.random((1, 100)) < 0.5}
    (pair,) = compare_pairs(cells, [("a", "b")])
    effect = Cells.of(cells).contrast({"a": 1.0, "b": -1.0})
    assert (pair.test, pair.runs, pair.with_seeds) == ("Student's t", 1, True)
    assert (pair.ci_low, pair.ci_high, pair.p, pair.difference) == (effect.low, effect.high, effect.p, effect.estimate)
    first, second = cells["a"][0], cells["b"][0]
    assert (pair.n10, pair.n01) == (int((first & ~second).sum()), int((~first & second).sum()))


def test_a_sweep_is_corrected_by_benjamini_and_hochberg() -> None:
    rng = np.random.default_rng(8)
    cells = {name: rng.random((1, 200)) < rate for name, rate in zip("abcd", (0.6, 0.5, 0.45, 0.4), strict=True)}
    pairs = compare_pairs(cells, [("a", name) for name in "bcd"], correction="fdr_bh")
    assert [pair.p_adjusted for pair in pairs] == pytest.approx(adjust([pair.p for pair in pairs], "fdr_bh"))


def test_too_few_items_say_so(tmp_path: Path) -> None:
    runs = {
        "a": write_run(tmp_path / "a.jsonl", np.ones(4, bool)),
        "b": write_run(tmp_path / "b.jsonl", np.zeros(4, bool)),
    }
    assert "too few to show any difference" in compare_runs(runs).verdict[0]
