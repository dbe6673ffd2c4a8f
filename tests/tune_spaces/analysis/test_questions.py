"""The plan's questions: which comparison answers each, in which family, and in which words."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.made_samples import write_samples
from tune_spaces.analysis.noise_floor import NoiseFloor
from tune_spaces.analysis.paired_comparison import GAIN, PairedComparison
from tune_spaces.analysis.paired_tests import adjust
from tune_spaces.analysis.pairwise import compare_pairs
from tune_spaces.analysis.questions import Asked, answer_questions
from tune_spaces.analysis.scored_trials import Trials, matrix, read_trials
from tune_spaces.analysis.verdicts import verdict

QUESTION = "Does B matter?"
FIGURES = "95 % interval [+9.0, +11.0], corrected p = 0.001, n = 1000"


def pair(difference: float, p: float = 0.001, **changes: Any) -> PairedComparison:
    values: dict[str, Any] = {
        **{"a": "full", "b": "B", "n": 1000, "clusters": 1000, "runs": 1, "accuracy_a": 0.6 + difference},
        **{"accuracy_b": 0.6, "n10": 150, "n01": 50, "difference": difference, "detectable": 0.03},
        **{"ci_low": difference - 0.01, "ci_high": difference + 0.01, "p": p, "p_adjusted": p, "test": "exact"},
    }
    return PairedComparison(**{**values, **changes})


def answer(found: PairedComparison | None, *, b: str = "B", of_variants: bool = True) -> str:
    return Asked(question=QUESTION, a="full", b=b, pair=found, of_variants=of_variants).answer()


@pytest.mark.parametrize(("difference", "word"), [(0.10, "higher"), (-0.10, "lower")])
def test_a_shown_difference_is_said_with_its_direction(difference: float, word: str) -> None:
    low, high = f"{100 * (difference - 0.01):+.1f}", f"{100 * (difference + 0.01):+.1f}"
    assert answer(pair(difference)) == (
        f"{QUESTION} Shown, {word}: accuracy of full against B {100 * difference:+.1f} points, 95 % interval "
        f"[{low}, {high}], corrected p = 0.001, n = 1000."
    )


def test_what_was_not_shown_is_equivalent_within_a_margin_or_excludes_what_is_beyond_its_interval() -> None:
    unclear = pair(0.01, p=0.3)
    figures = "accuracy of full against B +1.0 points, 95 % interval [+0.0, +2.0], corrected p = 0.3, n = 1000"
    open_answer = f"{QUESTION} Not shown: {figures}; differences beyond 2.0 points are excluded."
    assert answer(unclear) == open_answer
    assert answer(replace(unclear, margin=0.05, equivalent=False)) == open_answer
    assert answer(replace(unclear, margin=0.05, equivalent=True)) == (
        f"{QUESTION} No difference above the margin of 5.0 points (per comparison): {figures}."
    )
    shown = replace(pair(0.1), margin=0.2, equivalent=True)
    assert answer(shown).startswith(f"{QUESTION} Shown, higher: "), "a shown difference comes first"
    assert answer(shown).endswith("; smaller than the declared margin of 20.0 points.")


def test_a_difference_within_the_noise_floor_is_not_shown() -> None:
    assert answer(pair(0.015, floor=0.02)).endswith(
        "; the difference does not exceed what two runs of one configuration typically differ by (2.0 points), so it "
        "is no finding."
    )
    assert "Shown, " not in answer(pair(0.015, floor=0.02, margin=0.05, equivalent=True))


def test_clusters_stand_beside_the_items() -> None:
    assert answer(pair(0.1, clusters=40)).endswith("n = 1000, 40 clusters.")


def test_gains_answer_a_question_where_accuracies_cannot() -> None:
    assert "Shown, higher: gain over the target alone of full against B +10.0 points" in answer(
        pair(0.1, quantity=GAIN)
    )


def test_a_gain_that_could_not_have_been_as_large_is_said() -> None:
    """A target that solves everything by itself leaves nothing to gain, whatever the translator is worth."""
    gains = pair(-0.14, quantity=GAIN, accuracy_a=0.0, accuracy_b=0.14, room_a=0.0, room_b=0.5)
    limit = "full could not have gained as much: its target alone solves 100.0 %, which leaves room for 0.0 points"
    assert answer(gains).endswith(f"n = 1000; {limit}.")
    assert answer(replace(gains, p_adjusted=0.5)).endswith(f"are excluded; {limit}.")
    assert verdict(gains).endswith(f"; {limit}.")
    assert limit in verdict(replace(gains, p_adjusted=0.5))
    turned = gains.turned()
    assert (turned.room_a, turned.room_b) == (0.5, 0.0)
    assert "room for" not in verdict(replace(gains, room_a=0.2))


def test_a_question_whose_answer_is_the_opposite_is_not_answered_with_yes(tmp_path: Path) -> None:
    made = trials(tmp_path)
    (asked,) = answer_questions(made, [("Does B close the gap?", "B", "full")])
    assert asked.answer().startswith("Does B close the gap? Shown, lower: accuracy of B against full -")


def test_what_did_not_run_is_said() -> None:
    assert answer(None) == f"{QUESTION} Not answered: full and B did not both run on the same items."
    without = answer(None, b="target_alone", of_variants=False)
    assert without == f"{QUESTION} Not answered: full has no run with target_alone."


def trials(folder: Path, conditions: tuple[str, ...] = ("bridged", "target_alone")) -> Trials:
    """Return `full`, B and C on 200 items, and `math` under two seeds on 150 others."""
    rng, rows = np.random.default_rng(3), []
    for variant, rate, seed, first in (
        *(("full", 0.7, 0, 0), ("B", 0.5, 0, 0), ("C", 0.6, 0, 0)),
        *(("math", 0.8, 0, 1000), ("math", 0.8, 1, 1000)),
    ):
        items = 150 if first else 200
        verdicts = {name: rng.random(items) < (rate if name == "bridged" else 0.4) for name in conditions}
        path = write_samples(folder / f"{variant}-{seed}.jsonl", verdicts, first=first)
        rows.append({"variant": variant, "seed": seed, "task": "math" if first else "gsm8k", "samples": path.name})
    return read_trials(pd.DataFrame(rows), (), root=folder)


def test_questions_are_corrected_among_themselves_whatever_items_they_are_on(tmp_path: Path) -> None:
    found = trials(tmp_path)
    asks = [("1?", "C", "B"), ("2?", "math", "target_alone"), ("3?", "full", "absent"), ("4?", "full", "C")]
    asked = answer_questions(found, asks, margin=0.02)
    assert [one.question for one in asked] == ["1?", "2?", "3?", "4?"]
    first, second, third, fourth = (one.pair for one in asked)
    assert third is None
    pairs = [one for one in (first, second, fourth) if one is not None]
    assert [one.p_adjusted for one in pairs] == adjust([one.p for one in pairs])
    assert [(one.asked, one.comparisons, one.margin) for one in pairs] == [(True, 3, 0.02)] * 3
    cells = {name: matrix(runs) for name, runs in found.variants().items()}
    (alone,) = compare_pairs(cells, [("C", "B")])
    assert (pairs[0].p, pairs[0].difference) == (alone.p, alone.difference)
    (in_family, *_) = compare_pairs(cells, [("C", "B"), ("full", "C"), ("full", "B")])
    assert pairs[0].detectable == in_family.detectable, "what could be detected is that of a family of three"


def test_a_variant_on_other_items_has_the_noise_floor_of_its_own_replicates(tmp_path: Path) -> None:
    found = trials(tmp_path)
    wide = NoiseFloor(typical=0.9, largest=0.9, deviation=0.6, pairs=1, degrees_of_freedom=1)
    asks = [("?", "math", "target_alone"), ("?", "full", "target_alone")]
    math, full = (one.pair for one in answer_questions(found, asks, floor=wide))
    assert math is not None
    assert full is not None
    first, second = (float(run.samples.conditions["bridged"].correct.mean()) for run in found.apart)
    assert math.floor == pytest.approx(abs(first - second))
    assert math.shown
    assert full.within_floor


def test_a_variant_on_other_items_is_compared_with_its_own_baseline_on_them(tmp_path: Path) -> None:
    found = trials(tmp_path)
    assert "math" not in found.variants()
    (asked,) = answer_questions(found, [("Does the bridge help there?", "math", "target_alone")])
    assert asked.pair is not None
    assert (asked.pair.a, asked.pair.b, asked.pair.n, asked.pair.runs) == ("math", "target_alone", 150, 2)
    assert asked.pair.shown
    assert "accuracy of math against target_alone +" in asked.answer()
    assert not asked.of_variants
    (missing,) = answer_questions(trials(tmp_path / "b", ("bridged",)), [("?", "math", "target_alone")])
    assert missing.pair is None
    (absent,) = answer_questions(found, [("?", "nobody", "target_alone")])
    assert absent.pair is None
    assert answer_questions(found, []) == []
