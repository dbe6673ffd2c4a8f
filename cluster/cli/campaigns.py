"""Commands on campaigns that exist: where they stand, stopping one, and its results as a table."""

import time
from pathlib import Path
from typing import Any

from bridge_common import files, metric_names
from bridge_common.errors import UserError
from tune_spaces.campaign import Campaign
from tune_spaces.records import campaign_folder
from tune_spaces.records.campaigns import campaigns, choose, is_driven

POLL = 0.5


def print_status(storage: Path, name: str | None) -> None:
    """Print a line a campaign, or a table of one campaign's trials."""
    from rich.console import Console

    console = Console(highlight=False)
    names = campaigns(storage) if name is None else [choose(storage, name)]
    if not names:
        raise UserError(f"no campaign in {storage}: start one with phase1, or name its folder with --storage")
    for each in names:
        _print_campaign(console, Campaign.load(storage, each), trials=name is not None or len(names) == 1)


def _print_campaign(console: Any, campaign: Campaign, trials: bool) -> None:
    from cluster.monitoring.summary import gate_lines

    policy = campaign.policy()
    driven = is_driven(campaign.folder)
    wanted = policy.wanted()
    done = sum(name in policy.outcomes for name in wanted)
    failed = [n for n in wanted if n not in policy.outcomes and campaign.trial(n).failed]
    state = f"running ({campaign.driver()})" if driven else _state(policy.finished, bool(failed))
    console.print(f"{campaign.name}: {state}, {done} of {len(wanted)} trials done", markup=False)
    for line in gate_lines(policy):
        console.print(f"  {line}", markup=False)
    if trials:
        for name in wanted:
            console.print(f"  {_trial_line(campaign, name)}", markup=False)


def _state(finished: bool, failed: bool) -> str:
    return "finished" if finished else "failed" if failed else "not running"


def _trial_line(campaign: Campaign, name: str) -> str:
    folder = campaign.trial(name)
    trial = campaign.plan.trials[name]
    label = f"{name} (seed {trial.seed})"
    found = folder.result()
    if found is not None:
        accuracy = found["metrics"][metric_names.accuracy("bridged")]
        return f"{label}: {accuracy:.1%}" + (f", reused from {found['reused_from']}" if "reused_from" in found else "")
    if error := folder.error():
        return f"{label}: failed: {error['error']}"
    if not folder.events_file.is_file():
        return f"{label}: not started"
    steps = [event["step"] for event in folder.events() if event.get("kind") == "metrics"]
    return f"{label}: step {max(steps, default=0)} of {trial.spec.steps}"


def stop_campaign(storage: Path, name: str | None, timeout: float) -> int:
    """Ask a campaign's driver to end, wherever it runs, and wait until it has; returns the exit code."""
    chosen = choose(storage, name)
    folder = storage.expanduser() / chosen
    if not is_driven(folder):
        print(f"{chosen} is not running")
        return 0
    files.write_text(folder / campaign_folder.STOP, f"{time.time()}\n")
    ends = time.monotonic() + timeout
    while time.monotonic() < ends:
        if not is_driven(folder):
            print(f"{chosen} has stopped; to go on: python -m cluster resume --storage {storage} --name {chosen}")
            return 0
        time.sleep(POLL)
    print(f"{chosen} was asked to stop, and still runs after {timeout:g} s")
    return 1


def export_results(storage: Path, name: str | None, kind: str, out: Path | None) -> None:
    """Write a campaign's results into a file and say where."""
    from tune_spaces.records.results_table import FORMATS, export

    if kind not in FORMATS:
        raise UserError(f"--format {kind}: use {', '.join(FORMATS)}")
    campaign = Campaign.load(storage, choose(storage, name))
    frame = campaign.results()
    if frame.empty:
        raise UserError(f"campaign {campaign.name} has no trial yet")
    path = export(frame, out or campaign.folder / f"results.{kind}", kind)
    print(f"{len(frame)} trials: {path}")
