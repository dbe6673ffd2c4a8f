"""Plans of the tiny preset, and what a finished job leaves in a trial's folder, for tests of campaigns' records."""

from pathlib import Path
from typing import Any

from bridge_common import files
from bridge_common.trial_folder import TrialFolder
from ray_bridge import tiny, tiny_run
from tune_spaces.design import phases
from tune_spaces.design.plan import Plan, PlannedTrial, make_plan
from tune_spaces.records.campaign_folder import CampaignFolder

RUN = tiny_run()


def plan(**changes: Any) -> Plan:
    """Return the plan of phase 1 on the tiny preset with changes."""
    base = tiny(**changes)
    return make_plan(phases.phase1(base), base)


def of_variant(planned: Plan, variant: str) -> PlannedTrial:
    """Return the only trial of a variant."""
    (trial,) = (trial for trial in planned.trials.values() if trial.variant == variant)
    return trial


def finish(campaign: CampaignFolder, trial: PlannedTrial, accuracy: float = 0.6, seconds: float = 60.0) -> TrialFolder:
    """Write what a finished job leaves in a trial's folder: spec, events, samples, a checkpoint and the result."""
    folder = campaign.begin(trial, RUN)
    files.write_text(folder.events_file, "")
    correct = round(accuracy * 500)
    files.write_jsonl(folder.samples_file, [{"id": f"q{i}", "bridged_correct": i < correct} for i in range(500)])
    files.write_text(folder.path / "train" / "checkpoint", "large")
    folder.write_result(
        {
            "variant": trial.variant,
            "fingerprint": trial.fingerprint,
            "metrics": {"accuracy/bridged": accuracy, "correct/bridged": correct, "n": 500},
            "node_id": "n",
            "seconds": seconds,
            "start_seconds": 0.0,
            "evaluation_seconds": 0.0,
        }
    )
    return folder


def campaign(storage: Path, name: str = "c") -> CampaignFolder:
    """Return the folder of a campaign."""
    return CampaignFolder(storage / name)
