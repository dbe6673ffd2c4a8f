"""The gate of phase 1: from the accuracy of `full` to what runs next. Pure: evidence in, a decision out.

The branch follows the point estimate, as the campaign's plan says. How sure it is stands beside it: the interval,
whether that interval straddles a boundary, and the probability of each branch.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from bridge_common.errors import UserError
from tune_spaces.gate.evidence import Evidence


class Branch(StrEnum):
    """What follows `full`."""

    PASS = "pass"
    SOME = "attribute"  # B and C
    ALL = "attribute_all"  # A, B and C


VERDICTS = {
    Branch.PASS: "passed",
    Branch.SOME: "below {passes:.0%}: B and C attribute what is missing",
    Branch.ALL: "below {attribute:.0%}: A, B and C attribute what is missing",
}
"""What each branch says of phase 1, to be formatted with the gate's boundaries."""


STRADDLES = "the interval straddles a boundary"
CONTRADICTION = "the interval excludes all that an earlier one includes, so runs differ by more than items explain"
"""Why a decision is uncertain."""


class Mode(StrEnum):
    """Whether an uncertain decision is taken as it is, or more evidence is gathered first."""

    PLAIN = "plain"
    CONFIDENT = "confident"


@dataclass(frozen=True, kw_only=True)
class GateSettings:
    """Boundaries of the gate, and what to do if the evidence does not tell their sides apart.

    Attributes:
        passes: accuracy from which the phase has passed (inclusive).
        attribute: accuracy from which B and C are enough (inclusive); below it A runs as well.
        level: confidence level of the decision: of its interval, or in confident mode of all its intervals together.
        mode: plain, or confident: add runs of `full` while the decision is uncertain.
        budget: number of runs that confident mode may add.
    """

    passes: float = 0.70
    attribute: float = 0.65
    level: float = 0.95
    mode: Mode = Mode.PLAIN
    budget: int = 3

    @property
    def look_level(self) -> float:
        """Confidence level of the interval at one look.

        Confident mode looks again after each further run, and each look may err. So each gets an equal share of the
        error (Bonferroni), which holds whatever the looks have in common, such as their items.
        """
        looks = self.budget + 1 if self.mode is Mode.CONFIDENT else 1
        return 1 - (1 - self.level) / looks

    def __post_init__(self) -> None:
        if not 0 <= self.attribute <= self.passes <= 1:
            raise UserError(f"gate: needs 0 <= attribute <= passes <= 1, not {self.attribute} and {self.passes}")
        if not 0 < self.level < 1:
            raise UserError(f"gate: level must lie between 0 and 1, not {self.level}")
        if self.budget < 0:
            raise UserError(f"gate: the budget is a number of runs, not {self.budget}")
        try:
            object.__setattr__(self, "mode", Mode(self.mode))
        except ValueError:
            raise UserError(f"gate: unknown mode {self.mode!r}: use plain or confident") from None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A branch and how sure it is.

    Attributes:
        branch: what runs next, by the point estimate.
        uncertain: whether the interval straddles a boundary, so that another draw of items might decide otherwise, or
            the looks contradict one another.
        probabilities: of each branch, from the posterior of the accuracy under Jeffreys' prior, Beta(1/2, 1/2).
        evidence: the evidence that was decided on.
        settings: the gate's settings.
        contradicts: whether the interval has nothing in common with that of an earlier look: its runs then differ by
            more than their items explain, so that which of them were trained decides.
    """

    branch: Branch
    uncertain: bool
    probabilities: dict[str, float]
    evidence: Evidence
    settings: GateSettings = field(default_factory=GateSettings)
    contradicts: bool = False

    @property
    def doubt(self) -> str:
        """Why the decision is uncertain, in words; empty if it is not."""
        if self.contradicts:
            return CONTRADICTION
        return STRADDLES if self.uncertain else ""

    def record(self) -> dict[str, Any]:
        """Return plain values for `gate.json`."""
        values = asdict(self)
        return {**values.pop("evidence"), **values, "doubt": self.doubt}


def branch_of(accuracy: float, settings: GateSettings) -> Branch:
    """Return the branch of an accuracy; a boundary belongs to the side above it."""
    if accuracy >= settings.passes:
        return Branch.PASS
    return Branch.SOME if accuracy >= settings.attribute else Branch.ALL


def decide(evidence: Evidence, settings: GateSettings | None = None, earlier: Sequence[Evidence] = ()) -> Decision:
    """Decide what runs next, given the evidence about `full`.

    Probabilities come from the Beta posterior with Jeffreys' prior at the evidence's effective number of items.

    Args:
        evidence: what the runs so far say.
        settings: the gate's.
        earlier: the evidence of earlier looks, on fewer of these runs.
    """
    settings = settings or GateSettings()
    branch = branch_of(evidence.accuracy, settings)
    straddles = any(branch_of(end, settings) is not branch for end in (evidence.low, evidence.high))
    contradicts = any(evidence.low > other.high or evidence.high < other.low for other in earlier)
    return Decision(
        branch=branch,
        uncertain=straddles or contradicts,
        probabilities=_probabilities(evidence, settings),
        evidence=evidence,
        settings=settings,
        contradicts=contradicts,
    )


def _probabilities(evidence: Evidence, settings: GateSettings) -> dict[str, float]:
    from scipy.special import betainc

    correct = evidence.accuracy * evidence.effective_n
    a, b = correct + 0.5, evidence.effective_n - correct + 0.5
    below_pass = float(betainc(a, b, settings.passes))
    below_some = float(betainc(a, b, settings.attribute))
    return {Branch.PASS: 1 - below_pass, Branch.SOME: below_pass - below_some, Branch.ALL: below_some}
