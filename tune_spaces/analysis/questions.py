"""The plan's questions: a family of their own, declared before anything ran, and answered first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bridge_common.metric_names import CONDITIONS
from tune_spaces.analysis.noise_floor import NoiseFloor, noise_floor
from tune_spaces.analysis.paired_comparison import GAIN, PairedComparison
from tune_spaces.analysis.pairwise import compare_pairs, correct
from tune_spaces.analysis.scored_trials import Trials, matrix
from tune_spaces.analysis.variant_pairs import compare_variants
from tune_spaces.analysis.verdicts import but, no_room, p_value, points, within

Ask = tuple[str, str, str]
"""A question, and the two that it compares: variants a and b, or variant a with one of its own conditions, b."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question of the plan with the comparison that answers it.

    Attributes:
        question: in words.
        a, b: what is compared.
        pair: a − b, corrected among the plan's questions; None if the two did not both run.
        of_variants: whether b is a variant and not a condition.
    """

    question: str
    a: str
    b: str
    pair: PairedComparison | None
    of_variants: bool

    def answer(self) -> str:
        """Return question and answer in one line."""
        return f"{self.question} {self._answer()}"

    def _answer(self) -> str:
        pair = self.pair
        if pair is None:
            missing = f"{self.a} and {self.b} did not both run on the same items"
            if not self.of_variants:
                missing = f"{self.a} has no run with {self.b}"
            return f"Not answered: {missing}."
        low, high, difference = pair.ci_low, pair.ci_high, pair.difference
        what = "gain over the target alone" if pair.quantity == GAIN else "accuracy"
        grouped = "" if pair.clusters == pair.n else f", {pair.clusters} clusters"
        figures = (
            f"{what} of {self.a} against {self.b} {points(difference)} points, 95 % interval [{points(low)}, "
            f"{points(high)}], corrected p = {p_value(pair.p_adjusted)}, n = {pair.n}{grouped}"
        )
        if pair.shown:
            return f"Shown, {'higher' if difference > 0 else 'lower'}: {figures}{but(pair)}."
        if pair.within_floor:
            return f"Not shown: {figures}; the difference {within(pair.floor)}."
        if pair.equivalent and pair.margin is not None:
            return f"No difference above the margin of {100 * pair.margin:.1f} points (per comparison): {figures}."
        room = f"; {limit}" if (limit := no_room(pair)) else ""
        return f"Not shown: {figures}; differences beyond {100 * pair.largest:.1f} points are excluded{room}."


def answer_questions(
    trials: Trials, asks: Sequence[Ask], *, margin: float | None = None, floor: NoiseFloor | None = None
) -> list[Asked]:
    """Answer the plan's questions, all corrected together by Holm and apart from every other comparison.

    A variant on other items than the reference is compared with its own conditions on its own items, and with the noise
    floor of its own replicates, if it has any.

    Args:
        trials: the trials.
        asks: the questions.
        margin: largest difference that counts as none, if the plan declared one.
        floor: the noise floor, or None if it is not known.
    """
    pairs = [(a, b) for _, a, b in asks]
    # How many can be compared is known only afterwards; what could be detected depends on it.
    family: int | None = None
    for _ in range(2):
        compared = [_compare(trials, pair, margin, floor, family) for pair in pairs]
        family = max(1, sum(pair is not None for pair in compared))
    corrected = iter(correct([pair for pair in compared if pair is not None], "holm"))
    return [
        Asked(
            question=question,
            a=a,
            b=b,
            pair=None if pair is None else replace(next(corrected), asked=True),
            of_variants=b not in CONDITIONS,
        )
        for (question, a, b), pair in zip(asks, compared, strict=True)
    ]


def _compare(
    trials: Trials, pair: tuple[str, str], margin: float | None, floor: NoiseFloor | None, family: int | None
) -> PairedComparison | None:
    a, b = pair
    if b not in CONDITIONS:
        made = compare_variants(trials, [pair], margin=margin, floor=floor, family=family)
        return made[0] if made else None
    own = trials.on_own_items(a)
    if own is None:
        return None
    runs = own.variants()[a]
    if not all(b in trial.samples.conditions for trial in runs):
        return None
    cells = {a: matrix(runs), f"{a}\n{b}": matrix(runs, b)}
    if a not in trials.variants():  # replicates on other items tell nothing of these
        floor = noise_floor([cells[a].mean(axis=1).tolist()])
    (made_pair,) = compare_pairs(
        cells, [(a, f"{a}\n{b}")], clusters=own.clusters(), margin=margin, floor=floor, groups={f"{a}\n{b}": b},
        family=family,
    )  # fmt: skip
    return replace(made_pair, b=b)
