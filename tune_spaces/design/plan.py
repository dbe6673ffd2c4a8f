"""The frozen decision tree of a campaign: every trial that some outcome can ask for, known before anything runs.

Freezing it makes a campaign honest and resumable: a start that asks for something else is refused, not mixed in.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bridge_common.errors import UserError
from ray_bridge import JobSpec, fingerprint
from tune_spaces.design.phases import Phase
from tune_spaces.design.variants import Variant
from tune_spaces.gate.decision import GateSettings, Mode

MORE_ITEMS = 4  # confident mode's first extra run answers this many times the items, where the task has them


@dataclass(frozen=True, kw_only=True)
class PlannedTrial:
    """One trial: a variant under a seed.

    Attributes:
        variant: the variant's name.
        phase: the phase that it belongs to.
        spec: what it measures.
        fingerprint: of the spec.
        purpose: what running it tells.
        same_as: name of an earlier trial of this plan with the same fingerprint, whose result it takes.
    """

    variant: str
    phase: str
    spec: JobSpec
    fingerprint: str
    purpose: str = ""
    same_as: str | None = None

    @property
    def name(self) -> str:
        """Name of its folder, unique in the campaign."""
        return f"{self.variant}-{self.fingerprint[:8]}"

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.spec.seed


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The decision tree.

    Attributes:
        phase: what was asked for.
        base: the spec that all variants change.
        seeds: block of seeds.
        gate: the gate's settings.
        trials: all trials by name, in the order of running.
        first: names of the trials that always run.
        extras: names of further runs of the first variants, which confident mode may ask for one by one.
        branches: names of the trials that each outcome adds.
    """

    phase: Phase
    base: JobSpec
    seeds: tuple[int, ...]
    gate: GateSettings
    trials: Mapping[str, PlannedTrial]
    first: tuple[str, ...]
    extras: tuple[str, ...] = ()
    branches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a later start of the same campaign has to agree with."""
        return {
            "phase": self.phase.name,
            "passes": self.gate.passes,
            "attribute": self.gate.attribute,
            "trials": {t.name: t.fingerprint for t in self.trials.values() if t.name not in self.extras},
        }

    def changes(self, trial: PlannedTrial) -> dict[str, Any]:
        """Fields in which a trial differs from the base."""
        base, own = self.base.flat(), trial.spec.flat()
        return {name: value for name, value in own.items() if name not in base or value != base[name]}


def build(
    phase: Phase,
    base: JobSpec,
    *,
    seeds: Sequence[int] = (0,),
    gate: GateSettings | None = None,
    held: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan a phase.

    Args:
        phase: what runs.
        base: the spec that the variants change.
        seeds: block of seeds; each variant runs under all of them.
        gate: the gate's settings.
        held: fields of the base that the caller fixed; no variant changes them.

    Raises:
        UserError: for seeds that are no set, or a variant whose changes do not fit the base.
    """
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise UserError(f"seeds {list(seeds)}: give different whole numbers from 0")
    gate = gate or GateSettings()
    trials: dict[str, PlannedTrial] = {}
    owners: dict[str, str] = {}
    contents: dict[str, str] = {}

    def add(variant: Variant, phase_name: str, spec: JobSpec) -> str:
        digest = fingerprint(spec, contents)
        trial = PlannedTrial(
            variant=variant.name,
            phase=phase_name,
            spec=spec,
            fingerprint=digest,
            purpose=variant.purpose,
            same_as=owners.get(digest),
        )
        if trials.setdefault(trial.name, trial).fingerprint != digest:
            raise UserError(f"{trial.name}: two trials of one variant share the start of their fingerprint")
        owners.setdefault(digest, trial.name)
        return trial.name

    def all_of(chosen: Iterable[Variant], phase_name: str) -> tuple[str, ...]:
        return tuple(
            add(variant, phase_name, _spec(variant, base, seed, held or {}))
            for variant in chosen
            for seed in variant.seeds(seeds)
        )

    first = all_of(phase.first, phase.name)
    extras: list[str] = []
    if phase.gated and gate.mode is Mode.CONFIDENT:
        for number in range(gate.budget):
            for variant in phase.first:
                spec = _extra(_spec(variant, base, seeds[0], held or {}), number, seeds)
                extras.append(add(variant, phase.name, spec))
    follow_up = phase.follow_up or phase.name
    all_of(phase.variants()[len(phase.first) :], follow_up)
    branches = {str(outcome): all_of(chosen, follow_up) for outcome, chosen in phase.branches.items()}
    return Plan(
        phase=phase,
        base=base,
        seeds=tuple(seeds),
        gate=gate,
        trials=trials,
        first=first,
        extras=tuple(extras),
        branches=branches,
    )


def _spec(variant: Variant, base: JobSpec, seed: int, held: Mapping[str, Any]) -> JobSpec:
    try:
        return variant.spec(base, seed, held)
    except UserError as error:
        raise UserError(f"variant {variant.name}: {error}") from error


def _extra(spec: JobSpec, number: int, seeds: Sequence[int]) -> JobSpec:
    """The next run that narrows the gate's interval: more test items while the split has them, then further seeds."""
    if spec.test_examples is not None:
        more = spec.test_examples * MORE_ITEMS if spec.task == "synthetic" else None
        spec = spec.replace(test_examples=more)
        if number == 0:
            return spec
        number -= 1
    return spec.replace(seed=max(seeds) + 1 + number)
