"""The decision tree of a campaign: every trial that some outcome of the gate can ask for, known before anything runs.

It is frozen on disk before the first trial, which makes a campaign honest and resumable: a later start that asks for
something else is refused, not mixed in.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from bridge_common.errors import UserError
from ray_bridge import JobSpec, check_prompt_format, fingerprint
from tune_spaces.design.phases import Phase
from tune_spaces.design.variants import Variant
from tune_spaces.gate.decision import GateSettings, Mode

MOST_TRIALS = 10_000
"""Of a plan: planned in seconds, and searched in milliseconds a trial."""
MORE_ITEMS = 4  # confident mode's first extra run answers this many times the items, if the task has them


@dataclass(frozen=True, kw_only=True)
class PlannedTrial:
    """One trial: a variant under a seed.

    Attributes:
        variant: name of the variant.
        phase: name of the phase that the trial belongs to.
        spec: what the trial measures.
        fingerprint: fingerprint of the spec.
        purpose: what running the trial tells.
        same_as: name of an earlier trial of the plan with the same fingerprint, whose result it takes; None if it runs.
    """

    variant: str
    phase: str
    spec: JobSpec
    fingerprint: str
    purpose: str = ""
    same_as: str | None = None

    @property
    def name(self) -> str:
        """Name of the trial and its folder, unique in the campaign."""
        return f"{self.variant}-{self.fingerprint[:8]}"

    @property
    def seed(self) -> int:
        """Seed of weights, order of the data and training noise."""
        return self.spec.seed


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The decision tree of a campaign.

    Attributes:
        phase: the phase that was planned.
        base: the spec that all variants change.
        seeds: seeds of every variant.
        gate: the gate's settings.
        trials: all trials by name, in the order in which they would run.
        first: names of the trials that always run.
        extras: names of further runs of the first variants, which confident mode may ask for one by one.
        branches: names of the trials that each outcome of the gate adds.
        beside: names of the trials that run under every decision of the gate: controls, and twins in the other context.
    """

    phase: Phase
    base: JobSpec
    seeds: tuple[int, ...]
    gate: GateSettings
    trials: Mapping[str, PlannedTrial]
    first: tuple[str, ...]
    extras: tuple[str, ...] = ()
    branches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    beside: tuple[str, ...] = ()

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a later start of the same campaign has to agree with: phase, boundaries, and fingerprints of trials.

        Of a search whose trials are not known yet: its settings, and the fingerprint of the base.
        """
        identity = {"phase": self.phase.name, "passes": self.gate.passes, "attribute": self.gate.attribute}
        if self.phase.search is not None:
            base = self.base.replace(seed=self.seeds[0])
            return {**identity, "search": self.phase.search.record(), "trials": {"base": fingerprint(base)}}
        trials = {t.name: t.fingerprint for t in self.trials.values() if t.name not in self.extras}
        return {**identity, "trials": trials}

    def changes(self, trial: PlannedTrial) -> dict[str, Any]:
        """Return the fields that `base.replace` takes to make a trial's spec, with its values."""
        own = trial.spec.flat()
        changes = _differences(self.base, own)
        if "task" in changes:  # the new task fills in what it needs, which the trial may have kept
            changes |= _differences(self.base.replace(**changes), own)
        return changes


def make_plan(
    phase: Phase,
    base: JobSpec,
    *,
    seeds: Sequence[int] = (0,),
    gate: GateSettings | None = None,
    held: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan a phase: every variant under every seed, and what each outcome of the gate adds.

    Args:
        phase: what runs.
        base: the spec that the variants change.
        seeds: seeds of every variant.
        gate: the gate's settings.
        held: fields of the spec, with their values, that no variant changes.

    Raises:
        UserError: for seeds that repeat or are negative, more than `MOST_TRIALS`, or a variant whose changes do not fit
            the base.
    """
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise UserError(f"seeds {list(seeds)}: give different whole numbers from 0")
    _require_few(phase, seeds)
    if phase.search is not None and len(seeds) > 1:
        raise UserError(
            f"seeds {list(seeds)}: a search compares trials of one seed; run what it selects under more with ablate"
        )
    gate = gate or GateSettings()
    tree = _Tree(held or {})
    first = tree.add_all(phase.first, phase.name, base, seeds)
    extras: list[str] = []
    if phase.gated and gate.mode is Mode.CONFIDENT:
        for number in range(gate.budget):
            for variant in phase.first:
                spec = _extra(tree.spec(variant, base, seeds[0]), number, seeds)
                extras.append(tree.add(variant, phase.name, spec))
    follow_up = phase.follow_up or phase.name
    # The largest branch first, so that trials stand in its order whichever outcomes share them.
    tree.add_all(phase.followers(), follow_up, base, seeds)
    branches = {name: tree.add_all(variants, follow_up, base, seeds) for name, variants in phase.branches.items()}
    beside = tree.add_all(phase.beside, phase.name, base, seeds)
    return Plan(
        phase=phase,
        base=base,
        seeds=tuple(seeds),
        gate=gate,
        trials=tree.trials,
        first=first,
        extras=tuple(extras),
        branches={str(name): names for name, names in branches.items()},
        beside=beside,
    )


def _require_few(phase: Phase, seeds: Sequence[int]) -> None:
    """Refuse more trials than are planned in one campaign, before any of them is made."""
    variants = phase.variants()
    trials = sum(len(variant.seeds(seeds)) for variant in variants) + (phase.search.trials if phase.search else 0)
    if trials > MOST_TRIALS:
        each = f", {len(variants)} variants under {len(seeds)} seeds," if len(seeds) > 1 else ""
        raise UserError(
            f"{phase.name} would plan {trials} trials{each} and at most {MOST_TRIALS} are planned in one campaign: "
            f"ask for fewer, or split them between campaigns (--name)"
        )


def with_variant(plan: Plan, variant: Variant, held: Mapping[str, Any] | None = None) -> Plan:
    """Return a plan with one more variant that always runs.

    Args:
        plan: the plan so far.
        variant: what a search has proposed.
        held: as for `make_plan`.
    """
    tree = _Tree(held or {}, plan.trials)
    names = tree.add_all([variant], plan.phase.name, plan.base, plan.seeds)
    return replace(plan, trials=tree.trials, first=(*plan.first, *names))


def _differences(base: JobSpec, own: Mapping[str, Any]) -> dict[str, Any]:
    fields = base.flat()
    return {name: value for name, value in own.items() if name not in fields or value != fields[name]}


class _Tree:
    """Trials collected so far, each once."""

    def __init__(self, held: Mapping[str, Any], trials: Mapping[str, PlannedTrial] = MappingProxyType({})) -> None:
        self.trials = dict(trials)
        self._held = held
        self._by_fingerprint = {trial.fingerprint: name for name, trial in reversed(self.trials.items())}
        self._contents: dict[str, str] = {}  # digests of checkpoints and data, read once for all specs

    def spec(self, variant: Variant, base: JobSpec, seed: int) -> JobSpec:
        try:
            spec = variant.spec(base, seed, self._held)
            check_prompt_format(spec)
            return spec
        except UserError as error:
            raise UserError(f"variant {variant.name}: {error}") from error

    def add(self, variant: Variant, phase: str, spec: JobSpec) -> str:
        digest = fingerprint(spec, self._contents)
        trial = PlannedTrial(
            variant=variant.name,
            phase=phase,
            spec=spec,
            fingerprint=digest,
            purpose=variant.purpose,
            same_as=self._by_fingerprint.get(digest),
        )
        if self.trials.setdefault(trial.name, trial).fingerprint != digest:
            raise UserError(f"{trial.name}: two trials of one variant share the start of their fingerprint")
        self._by_fingerprint.setdefault(digest, trial.name)
        return trial.name

    def add_all(self, variants: Iterable[Variant], phase: str, base: JobSpec, seeds: Sequence[int]) -> tuple[str, ...]:
        return tuple(
            self.add(variant, phase, self.spec(variant, base, seed))
            for variant in variants
            for seed in variant.seeds(seeds)
        )


def _extra(spec: JobSpec, number: int, seeds: Sequence[int]) -> JobSpec:
    """Return the next run that narrows the gate's interval: more test items while the split has them, then seeds."""
    if spec.test_examples is not None:
        more = spec.test_examples * MORE_ITEMS if spec.task == "synthetic" else None
        spec = spec.replace(test_examples=more)
        if number == 0:
            return spec
        number -= 1
    return spec.replace(seed=max(seeds) + 1 + number)
