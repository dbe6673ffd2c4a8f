"""Print the state of the campaigns of a storage, from their folders: trials done, the gate, and the driver process."""

import json
import time
from pathlib import Path
from typing import Any

from bridge_common import heartbeat, metric_names, trial_files
from bridge_common.errors import UserError
from bridge_common.trial_folder import TrialFolder
from cluster.monitoring.snapshot import no_step
from cluster.monitoring.summary import gate_lines
from cluster.monitoring.text import wrapped
from tune_spaces.campaign import Campaign
from tune_spaces.records.campaigns import campaigns, choose


def print_status(storage: Path, name: str | None, as_json: bool = False) -> None:
    """Print one line a campaign, and one a trial if there is only one campaign or it is named.

    Args:
        storage: folder of the campaigns.
        name: the campaign; all by default.
        as_json: print a JSON list instead, with every trial of every campaign.

    Raises:
        UserError: if there is no such campaign.
    """
    from rich.console import Console

    console = Console(highlight=False)
    names = campaigns(storage) if name is None else [choose(storage, name)]
    if not names:
        raise UserError(f"no campaign in {storage}: start one with phase1, or name its folder with --storage")
    if as_json:
        print(json.dumps([_state_of(storage, each) for each in names]))
        return
    for each in names:
        try:
            _print_campaign(console, Campaign.load(storage, each), trials=len(names) == 1)
        except UserError as error:  # a damaged file, or a plug-in that is missing here, must not hide other campaigns
            if len(names) == 1:
                raise
            console.print(f"{each}: {error}", markup=False, soft_wrap=True)


def _state_of(storage: Path, name: str) -> dict[str, Any]:
    try:
        return _state_of_campaign(Campaign.load(storage, name))
    except UserError as error:
        return {"campaign": name, "error": str(error)}


def _state_of_campaign(campaign: Campaign) -> dict[str, Any]:
    policy = campaign.policy()
    trials = [{"name": name, "state": _trial_state(campaign.trial(name))} for name in policy.wanted()]
    return {
        "campaign": campaign.name,
        "folder": str(campaign.folder),
        "state": _state(campaign).split(" (")[0],
        "gate": policy.record() if policy.branches else None,
        "trials": [trial | _measured(campaign, trial["name"]) for trial in trials],
    }


def _trial_state(folder: TrialFolder) -> str:
    if folder.stopped_early:
        return "stopped early"
    known = {trial_files.FINISHED: "finished", trial_files.FAILED: "failed"}
    return known.get(folder.status or "", "unfinished" if folder.begun else "not started")


def _measured(campaign: Campaign, name: str) -> dict[str, Any]:
    folder, trial = campaign.trial(name), campaign.plan.trials[name]
    metrics = (folder.result() or {}).get("metrics", {})
    return {
        "variant": trial.variant,
        "seed": trial.seed,
        "accuracy": metrics.get(metric_names.accuracy("bridged")),
        "error": (folder.error() or {}).get("error") if folder.failed else None,
        "folder": str(folder.path),
    }


def _print_campaign(console: Any, campaign: Campaign, trials: bool) -> None:
    policy = campaign.policy()
    wanted = policy.wanted()
    done, asked = sum(name in policy.outcomes for name in wanted), len(wanted) + policy.proposals
    console.print(f"{campaign.name}: {_state(campaign)}, {done} of {asked} trials done", markup=False, soft_wrap=True)
    for line in gate_lines(policy):
        console.print(wrapped(f"  {line}", indent="    "), markup=False, soft_wrap=True)
    for name in wanted if trials else ():
        console.print(wrapped(f"  {_trial_line(campaign, name)}", indent="    "), markup=False, soft_wrap=True)


def _state(campaign: Campaign) -> str:
    if campaign.records.is_driven():
        return f"running ({campaign.records.driver()})"
    policy = campaign.policy()
    if policy.finished:
        return "finished"
    failed = any(campaign.trial(name).failed for name in policy.wanted() if name not in policy.outcomes)
    if failed:
        return "failed"
    reason = campaign.records.last_stop()
    return "not running" if reason is None else f"stopped ({reason})"


def _trial_line(campaign: Campaign, name: str) -> str:
    folder, trial = campaign.trial(name), campaign.plan.trials[name]
    label = f"{name} (seed {trial.seed})"
    if result := folder.result():
        reused = f", reused from {result['reused_from']}" if "reused_from" in result else ""
        return f"{label}: {result['metrics'][metric_names.accuracy('bridged')]:.1%}{reused}"
    if stopped := folder.stopped():
        return f"{label}: stopped early at step {stopped['step']}"
    if error := folder.error():
        return f"{label}: failed: {error['error']}"
    if not folder.events_file.is_file():
        return f"{label}: not started"
    step, stalled = 0, ""
    for event in folder.stream_events():
        if event.get("kind") == "metrics":
            step = max(step, event["step"])
        stalled = event.get("values", {}).get(heartbeat.STALLED, stalled)
    line = f"{label}: step {step} of {trial.spec.steps}"
    if campaign.records.is_driven() and (note := no_step(campaign, name, time.time())):
        line += f", {note}"
    return line + (f"; earlier: {stalled}" if stalled else "")
