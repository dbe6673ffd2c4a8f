"""What runs next in a campaign's decision tree, given how trials ended. Pure, except that it reads finished samples.

Stopper and searcher share a policy. In a fresh run it is one object; after Ray Tune restores an experiment it is two
copies, so both observe every trial, and `observe` may be called twice for the same one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tune_spaces.gate.decision import Branch, Decision, GateSettings, Mode, decide
from tune_spaces.gate.evidence import pool
from tune_spaces.gate.outcome import Outcome


@dataclass(kw_only=True)
class Policy:
    """A decision tree and the outcomes observed so far.

    Attributes:
        first: names of the trials that always run.
        extras: names of further runs that confident mode may ask for, in this order.
        branches: names of the trials that each outcome of the gate adds; empty without a gate.
        beside: names of trials that also run, under every decision of the gate, which does not read them.
        gate: the gate's settings.
        outcomes: how each trial ended that has ended, by name.
        proposals: number of trials that a search has still to propose.
    """

    first: tuple[str, ...]
    extras: tuple[str, ...] = ()
    branches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    gate: GateSettings = field(default_factory=GateSettings)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    proposals: int = 0

    def add(self, name: str) -> None:
        """Add a trial that a search has proposed, which always runs."""
        self.first, self.proposals = (*self.first, name), self.proposals - 1

    def observe(self, name: str, outcome: Outcome) -> None:
        """Record how a trial ended."""
        self.outcomes[name] = outcome

    @property
    def failed_first(self) -> str | None:
        """Name of a trial that the gate needs and that failed, so that nothing else runs; None if there is none."""
        if not self.branches:
            return None
        return next((n for n in (*self.first, *self.extras) if n in self.outcomes and self.outcomes[n].failed), None)

    def decisions(self) -> list[Decision]:
        """Return the gate's decisions so far: on the first trials, and again after each further run.

        A decision is certain once and for all: no run is asked for after it, and none that ends later is read.
        """
        if not self.branches or self.failed_first or any(name not in self.outcomes for name in self.first):
            return []
        runs = [self.outcomes[name] for name in self.first]
        decisions = [decide(pool(runs, self.gate.look_level), self.gate)]
        for name in self.extras:
            if not self._needs_more(decisions[-1]) or name not in self.outcomes:
                break
            runs.append(self.outcomes[name])
            earlier = [decision.evidence for decision in decisions]
            decisions.append(decide(pool(runs, self.gate.look_level, earlier[-1]), self.gate, earlier))
        return decisions

    def wanted(self) -> list[str]:
        """Return the names of the trials that are asked for so far, in order, finished ones included."""
        if self.failed_first:
            return [name for name in (*self.first, *self.extras, *self.beside) if name in self.outcomes]
        decisions = self.decisions()
        if not decisions:
            return [*self.first, *self.beside]
        used = len(decisions) - 1  # further runs that the last decision rests on
        if self._pending(decisions):
            return [*self.first, *self.extras[: used + 1], *self.beside]
        return [*self.first, *self.extras[:used], *self.branches[decisions[-1].branch], *self.beside]

    def ready(self) -> list[str]:
        """Return the names of the trials that may run now, in order: all that no undecided gate holds back."""
        return [name for name in self.wanted() if name not in self.outcomes]

    def next(self) -> str | None:
        """Return the name of the next trial to run, or None if nothing is left to run."""
        return next(iter(self.ready()), None)

    def follows_gate(self, name: str) -> bool:
        """Return whether a trial runs because the gate asked for it, as an outcome's variant or as further evidence."""
        return bool(self.branches) and name not in (*self.first, *self.beside)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run or to propose."""
        return self.next() is None and not self.proposals

    def record(self) -> dict[str, Any]:
        """Return plain values for `gate.json`."""
        decisions, failed = self.decisions(), self.failed_first
        final = decisions[-1] if decisions and not self._pending(decisions) else None
        return {
            "settings": {
                "passes": self.gate.passes,
                "attribute": self.gate.attribute,
                "level": self.gate.level,
                "mode": str(self.gate.mode),
                "budget": self.gate.budget,
            },
            "status": "failed" if failed else "decided" if final else "open",
            "failed": failed,
            "passed": final is not None and final.branch is Branch.PASS,
            "branch": final.branch if final else None,
            "uncertain": decisions[-1].uncertain if decisions else None,
            "decisions": [decision.record() for decision in decisions],
            "probabilities_from": "posterior of the accuracy under Jeffreys' prior, Beta(1/2, 1/2)",
        }

    def _needs_more(self, decision: Decision) -> bool:
        return self.gate.mode is Mode.CONFIDENT and decision.uncertain

    def _pending(self, decisions: list[Decision]) -> bool:
        """Return whether another run of the first variants comes before the last decision is acted on."""
        return self._needs_more(decisions[-1]) and len(decisions) - 1 < len(self.extras)
