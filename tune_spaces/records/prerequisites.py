"""Phases that must have passed before another may start."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge_common import files
from ray_bridge import JobSpec
from tune_spaces.records import campaign_folder


def prerequisite(storage: Path, phase: str, base: JobSpec) -> dict[str, Any]:
    """Whether some campaign in the storage has carried a phase out on the same models and task, and passed.

    Models may have changed places: direction is what phase 2 asks about.
    """
    seen = []
    for path in sorted(Path(storage).glob(f"*/{campaign_folder.CAMPAIGN}")):
        asked = files.read_json(path)
        if asked["phase"]["name"] != phase or not _same_study(asked["base"], base):
            continue
        gate_path = path.parent / campaign_folder.GATE
        gate = files.read_json(gate_path) if gate_path.is_file() else {}
        if gate.get("passed"):
            return {"phase": phase, "passed": True, "campaign": path.parent.name, "reason": "passed"}
        seen.append(f"{path.parent.name} {_standing(gate)}")
    reason = "; ".join(seen) if seen else f"no campaign in {storage} has run it on these models and this task"
    return {"phase": phase, "passed": False, "campaign": None, "reason": reason}


def _standing(gate: Mapping[str, Any]) -> str:
    made = gate.get("decisions")
    if not made:
        return "is not decided"
    return f"did not pass: {made[-1]['accuracy']:.1%} against {gate['settings']['passes']:.0%}"


def _same_study(old: Mapping[str, Any], base: JobSpec) -> bool:
    own = base.flat()
    pair = {own["source"], own["target"]}
    return {old["source"], old["target"]} == pair and all(old.get(f) == own[f] for f in ("task", "task_data"))
