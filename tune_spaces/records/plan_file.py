"""Phases and plans as plain values: what `campaign.json` and `plan.json` say, and how they are read back."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bridge_common.trial_folder import TrialFolder
from ray_bridge import JobSpec, RunSpec
from tune_spaces.design import cost_estimates
from tune_spaces.design.phases import Phase
from tune_spaces.design.plan import Plan, PlannedTrial
from tune_spaces.design.search import Search
from tune_spaces.design.variants import Variant
from tune_spaces.gate.decision import GateSettings
from tune_spaces.records import reuse
from tune_spaces.records.campaign_folder import CampaignFolder


def phase_record(phase: Phase) -> dict[str, Any]:
    """Return a phase as plain values."""
    return {
        **asdict(phase),
        "first": [asdict(variant) for variant in phase.first],
        "search": phase.search.record() if phase.search else None,
        "branches": {str(name): [asdict(v) for v in variants] for name, variants in phase.branches.items()},
        "controls": [asdict(variant) for variant in phase.controls],
        "contexts": [asdict(variant) for variant in phase.contexts],
        "needs": list(phase.needs),
        "asks": [list(question) for question in phase.asks],
    }


def phase_from_record(record: Mapping[str, Any]) -> Phase:
    """Return the phase that `phase_record` described."""
    branches = {name: tuple(Variant(**v) for v in variants) for name, variants in record["branches"].items()}
    first = tuple(Variant(**variant) for variant in record["first"])
    changed = {
        "first": first,
        "branches": branches,
        # what was planned before there were any has none
        **{name: tuple(Variant(**v) for v in record.get(name, ())) for name in ("controls", "contexts")},
        "needs": tuple(record["needs"]),
        "asks": tuple((question, a, b) for question, a, b in record.get("asks", ())),
        "search": Search.from_record(record.get("search")),
        "margin": record.get("margin"),  # what was planned without one declared none
    }
    return Phase(**{**record, **changed})


def plan_record(plan: Plan, run: RunSpec, campaign: CampaignFolder, finished: reuse.Finished) -> dict[str, Any]:
    """Return the content of `plan.json`: the decision tree, the cost of each trial, and which are done already.

    Args:
        plan: the decision tree.
        run: workers on which costs are estimated.
        campaign: whose plan it is.
        finished: finished trials of the storage (`reuse.finished_trials`).
    """
    model = cost_estimates.CostModel.from_finished(run, [folder for folders in finished.values() for folder in folders])
    costs = {trial.name: model.estimate(trial.spec, run) for trial in plan.trials.values()}
    of_base = model.estimate(plan.base, run)
    assumed = sorted({note for cost in (of_base, *costs.values()) for note in cost.time.notes})
    return {
        "frozen": time.time(),
        "phase": plan.phase.name,
        "goal": plan.phase.goal,
        "identity": plan.identity,
        "first": list(plan.first),
        "extras": list(plan.extras),
        "branches": {name: list(trials) for name, trials in plan.branches.items()},
        "beside": list(plan.beside),
        "gate": {**asdict(plan.gate), "mode": str(plan.gate.mode)} if plan.phase.gated else None,
        "seeds": list(plan.seeds),
        "estimate": {**model.record(), "assumed": assumed},
        "base": plan.base.model_dump(),
        "search": _search_record(plan, of_base),
        "trials": [_trial_record(trial, plan, costs[trial.name], campaign, finished) for trial in plan.trials.values()],
    }


def _search_record(plan: Plan, cost: cost_estimates.Cost) -> dict[str, Any] | None:
    search = plan.phase.search
    if search is None:
        return None
    return {
        "method": search.method,
        "trials": search.trials,
        "over": [f"{axis.field}={axis.text}" for axis in search.axes],
        "minutes": round(cost.minutes, 1),
        "gpu_hours": round(cost.gpu_hours, 3),
        "estimate": cost.basis,
        "items": cost.time.items if cost.time.items_known else None,
    }


def _trial_record(
    trial: PlannedTrial, plan: Plan, cost: cost_estimates.Cost, campaign: CampaignFolder, finished: reuse.Finished
) -> dict[str, Any]:
    # Most planned trials have not finished: looking at the digits first keeps a plan of thousands off the disk.
    source = reuse.source_of(trial, campaign, finished) if trial.fingerprint[:8] in finished else None
    return {
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
        "minutes_by_part": {name: round(seconds / 60, 2) for name, seconds in cost.time.parts.items()},
        "items": cost.time.items if cost.time.items_known else None,
        "done": source is not None,
        "reused_from": _reused_from(source, campaign.trial(trial.name)),
    }


def _reused_from(source: TrialFolder | None, own: TrialFolder) -> str | None:
    if source is None:
        return None
    return str(source.path) if source != own else (own.result() or {}).get("reused_from")


def plan_from_record(record: Mapping[str, Any], phase: Phase, base: JobSpec, gate: GateSettings) -> Plan:
    """Return the plan as it was frozen: with its fingerprints, even if checkpoints or data have changed since.

    Raises:
        LookupError: if a trial's name is not that of its variant and fingerprint, or is no folder's name; if the plan
            names a trial that it lacks, or has other branches than the phase.
    """
    planned = [
        PlannedTrial(
            variant=row["variant"],
            phase=row["phase"],
            spec=base.replace(**row["changes"]),
            fingerprint=row["fingerprint"],
            purpose=row["purpose"],
            same_as=row["same_as"],
        )
        for row in record["trials"]
    ]
    for trial, row in zip(planned, record["trials"], strict=True):
        if row["name"] != trial.name or Path(trial.name).name != trial.name:  # a folder's name
            raise LookupError(f"{row['name']!r} is no trial's name")
    trials = {trial.name: trial for trial in planned}
    if record["branches"].keys() != {str(name) for name in phase.branches}:
        raise LookupError(f"its branches are {', '.join(record['branches'])}")
    parts = (record["first"], record["extras"], record.get("beside", ()), *record["branches"].values())
    if missing := [name for part in parts for name in part if name not in trials]:
        raise LookupError(f"{missing[0]!r} is none of its trials")
    return Plan(
        phase=phase,
        base=base,
        seeds=tuple(record["seeds"]),
        gate=gate,
        trials=trials,
        first=tuple(record["first"]),
        extras=tuple(record["extras"]),
        branches={name: tuple(names) for name, names in record["branches"].items()},
        beside=tuple(record.get("beside", ())),
    )


def settings_shared(plan: Plan) -> dict[str, Any]:
    """Return the spec's fields on which all trials of a plan agree: the parameters of the phase's MLflow run."""
    varied = _varied(plan)
    return {name: value for name, value in plan.base.flat().items() if name not in varied}


def settings_varied(plan: Plan, trial: PlannedTrial) -> dict[str, Any]:
    """Return a trial's values of the fields on which the plan's trials differ, without the seed.

    Every trial has all of them, also those that it leaves as they are in the base.
    """
    spec = plan.base.flat() | plan.changes(trial) | trial.spec.flat()
    varied = _varied(plan) | set(plan.changes(trial))
    return {name: spec[name] for name in sorted(varied - {"seed"}) if name in spec}


def _varied(plan: Plan) -> set[str]:
    axes = plan.phase.search.axes if plan.phase.search else ()
    return {name for trial in plan.trials.values() for name in plan.changes(trial)} | {axis.field for axis in axes}
