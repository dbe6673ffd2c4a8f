"""What is written down before a campaign runs: the frozen plan, what came before it, and how it is read back."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bridge_common.trial_folder import TrialFolder
from ray_bridge import JobSpec, RunSpec
from tune_spaces.design import cost_estimates
from tune_spaces.design.phases import Phase
from tune_spaces.design.plan import Plan, PlannedTrial
from tune_spaces.design.variants import Variant
from tune_spaces.gate.decision import GateSettings
from tune_spaces.records import reuse


def phase_record(phase: Phase) -> dict[str, Any]:
    """A phase as plain values."""
    return {
        **asdict(phase),
        "first": [asdict(variant) for variant in phase.first],
        "branches": {str(name): [asdict(v) for v in chosen] for name, chosen in phase.branches.items()},
        "needs": list(phase.needs),
    }


def phase_from_record(record: Mapping[str, Any]) -> Phase:
    """The phase behind plain values."""
    return Phase(
        **{
            **record,
            "first": tuple(Variant(**variant) for variant in record["first"]),
            "branches": {name: tuple(Variant(**v) for v in chosen) for name, chosen in record["branches"].items()},
            "needs": tuple(record["needs"]),
        }
    )


def plan_record(
    plan: Plan, run: RunSpec, campaign: Path, finished: Mapping[str, Sequence[TrialFolder]]
) -> dict[str, Any]:
    """`plan.json`: the decision tree with its costs, and what is done already."""
    known = {digest: list(folders) for digest, folders in finished.items()}
    clock = cost_estimates.Clock.from_finished(run, [folder for folders in known.values() for folder in folders])
    trials = []
    for trial in plan.trials.values():
        source = reuse.source_of(trial, campaign, known) if trial.fingerprint[:8] in known else None
        own = TrialFolder.of(campaign, trial.name)
        cost = clock.estimate(trial.spec, run)
        trials.append(
            {
                "name": trial.name,
                "variant": trial.variant,
                "phase": trial.phase,
                "seed": trial.seed,
                "fingerprint": trial.fingerprint,
                "purpose": trial.purpose,
                "changes": plan.changes(trial),
                "same_as": trial.same_as,
                "minutes": round(cost.minutes, 1),
                "gpu_hours": round(cost.gpu_hours, 3),
                "estimate": cost.basis,
                "done": source is not None,
                "reused_from": _reused_from(source, own),
            }
        )
    return {
        "frozen": time.time(),
        "phase": plan.phase.name,
        "goal": plan.phase.goal,
        "identity": plan.identity,
        "first": list(plan.first),
        "extras": list(plan.extras),
        "branches": {name: list(chosen) for name, chosen in plan.branches.items()},
        "gate": {**asdict(plan.gate), "mode": str(plan.gate.mode)} if plan.phase.gated else None,
        "seeds": list(plan.seeds),
        "base": plan.base.model_dump(),
        "trials": trials,
    }


def _reused_from(source: TrialFolder | None, own: TrialFolder) -> str | None:
    if source is None:
        return None
    return str(source.path) if source != own else (own.result() or {}).get("reused_from")


def plan_from_record(record: Mapping[str, Any], phase: Phase, base: JobSpec, gate: GateSettings) -> Plan:
    """The plan as it was frozen: its fingerprints stay, whatever has happened to the files behind them."""
    trials = {
        row["name"]: PlannedTrial(
            variant=row["variant"],
            phase=row["phase"],
            spec=base.replace(**row["changes"]),
            fingerprint=row["fingerprint"],
            purpose=row["purpose"],
            same_as=row["same_as"],
        )
        for row in record["trials"]
    }
    return Plan(
        phase=phase,
        base=base,
        seeds=tuple(record["seeds"]),
        gate=gate,
        trials=trials,
        first=tuple(record["first"]),
        extras=tuple(record["extras"]),
        branches={name: tuple(chosen) for name, chosen in record["branches"].items()},
    )


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """In what two plans of one campaign differ, in a few words, or None."""
    for name in ("phase", "passes", "attribute"):
        if old[name] != new[name]:
            return f"{name} was {old[name]}, now {new[name]}"
    before, after = set(old["trials"].values()), set(new["trials"].values())
    if before != after:
        return f"{len(before - after)} of its {len(before)} trials would measure something else now"
    return None


def settings_shared(plan: Plan) -> dict[str, Any]:
    """Fields that all trials of a plan have in common: the parameters of the phase's run."""
    differing = {name for trial in plan.trials.values() for name in plan.changes(trial)}
    return {name: value for name, value in plan.base.flat().items() if name not in differing}
