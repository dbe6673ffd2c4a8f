"""Phases that must have passed before another may start."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from ray_bridge import JobSpec
from tune_spaces.records.campaign_folder import CampaignFolder


def prerequisite(storage: Path, phase: str, base: JobSpec) -> dict[str, Any]:
    """Find out whether a campaign in a storage has run a phase on the same models and task, and passed.

    Source and target may be exchanged: direction is what phase 2 asks about.

    Args:
        storage: folder of all campaigns.
        phase: name of the phase that must have passed.
        base: the spec that the phase must have been run on, except for its toggles and sizes.

    Returns:
        `phase`, `passed`, the `campaign` that passed (None if there is none) and the `reason`.
    """
    standings = []
    for folder in CampaignFolder.all_in(storage):
        try:
            record, gate = folder.campaign() or {}, folder.gate() or {}
        except UserError as error:  # it may or may not be the one
            standings.append(str(error))
            continue
        if record["phase"]["name"] != phase or not _same_study(record["base"], base):
            continue
        if gate.get("passed"):
            return {"phase": phase, "passed": True, "campaign": folder.name, "reason": "passed"}
        standings.append(f"{folder.name} {_standing(gate)}")
    reason = "; ".join(standings) or f"no campaign in {storage} has run it on these models and this task"
    return {"phase": phase, "passed": False, "campaign": None, "reason": reason}


def _standing(gate: Mapping[str, Any]) -> str:
    decisions = gate.get("decisions")
    if not decisions:
        return "is not decided"
    return f"did not pass: {decisions[-1]['accuracy']:.1%} against {gate['settings']['passes']:.0%}"


def _same_study(earlier: Mapping[str, Any], base: JobSpec) -> bool:
    own = base.flat()
    models = {own["source"], own["target"]}
    mappings = [(fields.get("task_mapping") or {}).get("name") for fields in (earlier, own)]
    same_task = all(earlier.get(field) == own[field] for field in ("task", "task_data")) and mappings[0] == mappings[1]
    return same_task and {earlier["source"], earlier["target"]} == models
