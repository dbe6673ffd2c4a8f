"""What runs next: the walk through a campaign's decision tree. Pure but for reading the samples of finished runs.

Stopper and searcher both hold a policy. In a fresh run it is one object; after Ray Tune restores an experiment it is
two copies, so both are fed, and `observe` says the same thing twice without harm.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tune_spaces.gate.decision import Decision, GateSettings, Mode, decide
from tune_spaces.gate.evidence import Outcome, pool


@dataclass(kw_only=True)
class Policy:
    """The state of a walk.

    Attributes:
        first: trials that always run.
        extras: further runs that confident mode may ask for, in order.
        branches: trials that each outcome of the gate adds; empty without a gate.
        gate: the gate's settings.
        outcomes: how the trials ended that have ended.
    """

    first: tuple[str, ...]
    extras: tuple[str, ...] = ()
    branches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gate: GateSettings = field(default_factory=GateSettings)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def observe(self, name: str, outcome: Outcome) -> None:
        """Take note of how a trial ended."""
        self.outcomes[name] = outcome

    @property
    def failed_first(self) -> str | None:
        """A gated trial that failed: there is nothing to decide on, so nothing else runs."""
        if not self.branches:
            return None
        return next((n for n in (*self.first, *self.extras) if n in self.outcomes and self.outcomes[n].failed), None)

    def decisions(self) -> list[Decision]:
        """The gate's decisions so far: on the first trials, and again after each further run."""
        if not self.branches or self.failed_first or any(name not in self.outcomes for name in self.first):
            return []
        runs = [self.outcomes[name] for name in self.first]
        made = [decide(pool(runs, self.gate.level), self.gate)]
        for name in self.extras:
            if not self._asks_more(made[-1]) or name not in self.outcomes:
                break
            runs.append(self.outcomes[name])
            made.append(decide(pool(runs, self.gate.level), self.gate))
        return made

    def _asks_more(self, decision: Decision) -> bool:
        return self.gate.mode is Mode.CONFIDENT and decision.uncertain

    def wanted(self) -> list[str]:
        """The trials that the campaign asks for as far as is known now, in order, finished ones among them."""
        if self.failed_first:
            return [name for name in (*self.first, *self.extras) if name in self.outcomes]
        made = self.decisions()
        if not made:
            return list(self.first)
        used = len(made) - 1
        if self._asks_more(made[-1]) and used < len(self.extras):
            return [*self.first, *self.extras[: used + 1]]
        return [*self.first, *self.extras[:used], *self.branches[made[-1].branch]]

    def next(self) -> str | None:
        """The next trial to run, or None where nothing is left to do."""
        return next((name for name in self.wanted() if name not in self.outcomes), None)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.next() is None

    def record(self) -> dict[str, Any]:
        """Plain values for `gate.json`."""
        made = self.decisions()
        failed = self.failed_first
        return {
            "settings": {
                "passes": self.gate.passes,
                "attribute": self.gate.attribute,
                "level": self.gate.level,
                "mode": str(self.gate.mode),
                "budget": self.gate.budget,
            },
            "status": "failed" if failed else "decided" if made and not self._pending(made) else "open",
            "failed": failed,
            "passed": bool(made) and not self._pending(made) and made[-1].branch == "pass",
            "branch": made[-1].branch if made and not self._pending(made) else None,
            "uncertain": made[-1].uncertain if made else None,
            "decisions": [decision.record() for decision in made],
            "probabilities_from": "posterior of the accuracy under Jeffreys' prior, Beta(1/2, 1/2)",
        }

    def _pending(self, made: list[Decision]) -> bool:
        return self._asks_more(made[-1]) and len(made) - 1 < len(self.extras)
