"""`plan PHASE`: the decision tree before anything runs, with its price and what it can resolve."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from cluster.cli.checks import require_writable
from cluster.cli.data import check_campaign_data
from cluster.cli.options import PhaseRequest
from cluster.cli.request import make_campaign
from cluster.monitoring.text import wrapped
from cluster.preflight.check import Check, require
from cluster.preflight.node_probe import gpu_bytes, memory_bytes
from cluster.preflight.requirements import ASSUMED_GPU, Requirements
from tune_spaces.campaign import Campaign
from tune_spaces.design.cost_estimates import DISCORDANCE, comparison_resolution, family_size, gate_resolution
from tune_spaces.gate.ranges import RANGES
from tune_spaces.ray_tune.nodes import needs

MOST_ROWS = 40
GPU_TIMEOUT_S = 5.0


def print_plan(phase: str, request: PhaseRequest, gpu_memory: float | None = None, as_json: bool = False) -> None:
    """Print a phase's plan and freeze it in the campaign's folder.

    Args:
        phase: name of the phase.
        request: its options.
        gpu_memory: GB of each GPU; None takes those of this machine, or assumes a size.
        as_json: print the content of `plan.json` and the checks as one JSON object.

    Raises:
        UserError: if a trial's texts are longer than a model's context, or it clearly does not fit into memory.
    """
    from rich.console import Console

    campaign = make_campaign(phase, request)
    require_writable(campaign.storage)
    check_campaign_data(campaign)
    checks = requirement_checks(campaign, gpu_memory)
    if not request.skip_preflight:
        require(checks)
    with campaign.records.locked():
        record = campaign.freeze()
    if as_json:
        print(json.dumps({"campaign": campaign.name, **record, "checks": [asdict(check) for check in checks]}))
        return
    console = Console(width=None if Console().is_terminal else 140, highlight=False)
    console.print(f"{campaign.name}: {campaign.phase.goal}", markup=False)
    if record["trials"]:
        console.print(_table(record["trials"]))
    needs = [*_needs(campaign), *check_lines(checks)]
    for line in [*_tree(record), *_search(record), *price(record), *needs, *resolution(campaign, record)]:
        shown = wrapped(line, width=console.width) if console.is_terminal else line
        console.print(shown, markup=False, soft_wrap=True)
    console.print(f"frozen in {campaign.folder / 'plan.json'}", markup=False, soft_wrap=True)


def requirement_checks(campaign: Campaign, gpu_memory: float | None = None) -> list[Check]:
    """Return checks of context and memory for the campaign's trials that are not done.

    Args:
        campaign: the campaign.
        gpu_memory: GB of each GPU; None takes those of this machine, or assumes a size.
    """
    run, note = campaign.run_spec, ""
    requirements = Requirements(trials=campaign.specs(), run=run)
    if not run.use_gpu:
        capacity, note = memory_bytes()["available"] / run.workers, ", this machine's"
    elif gpu_memory is not None:
        capacity = gpu_memory * 1e9
    elif seen := gpu_bytes(GPU_TIMEOUT_S):
        capacity = min(seen)
    else:
        capacity, note = ASSUMED_GPU, ", assumed: --gpu-memory GB says what they have"
    return [*requirements.context(), *requirements.memory(capacity, note=note)]


def check_lines(checks: Iterable[Check]) -> list[str]:
    """Return a line a check, and a line a reason for all that could not be made."""
    lines: dict[str, None] = {}
    unchecked: dict[str, dict[str, None]] = {}
    for check in checks:
        if check.status == "skip":
            unchecked.setdefault(check.detail.split(": ", 1)[-1], {})[check.name] = None
        else:
            remedy = f": {check.remedy}" if check.status == "warn" and check.remedy else ""
            lines[f"{check.name}: {check.detail}{remedy}"] = None
    return [*lines, *(f"{' and '.join(names)}: {reason}" for reason, names in unchecked.items())]


def _table(trials: list[Mapping[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    on_gpus = ("GPU-hours",) if any(trial["gpu_hours"] for trial in trials) else ()
    for heading in ("trial", "phase", "seed", "fingerprint", "minutes", *on_gpus, "state", "purpose"):
        number = heading in ("seed", "minutes", "GPU-hours")
        table.add_column(heading, justify="right" if number else "left", overflow="fold", no_wrap=number)
    for trial in trials[:MOST_ROWS]:
        hours = [f"{trial['gpu_hours']:.1f}"] if on_gpus else []
        known = [trial["variant"], trial["phase"], str(trial["seed"]), trial["fingerprint"]]
        table.add_row(*known, f"{trial['minutes']:.0f}", *hours, state(trial), trial["purpose"])
    if len(trials) > MOST_ROWS:
        table.add_row(f"and {len(trials) - MOST_ROWS} more")
    return table


def state(trial: Mapping[str, Any]) -> str:
    """Return whether a planned trial is done, and where its result comes from."""
    if trial["reused_from"]:
        return f"reused: {trial['reused_from'].split('/')[-3]}"
    if trial["done"]:
        return "done"
    return f"same as {trial['same_as']}" if trial["same_as"] else "to run"


def _cost(trials: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    left = [trial for trial in trials if not trial["done"] and not trial["same_as"]]
    return sum(trial["minutes"] for trial in left), sum(trial["gpu_hours"] for trial in left)


def _tree(record: Mapping[str, Any]) -> list[str]:
    named = {trial["name"]: trial for trial in record["trials"]}

    def listed(names: Iterable[str]) -> str:
        return ", ".join(f"{named[n]['variant']} (seed {named[n]['seed']})" for n in names) or "nothing more"

    beside = [f"beside them, whatever the gate decides: {listed(record['beside'])}"] if record["beside"] else []
    if not record["branches"]:
        return beside
    lines = [f"first: {listed(record['first'])}"]
    if record["extras"]:
        lines.append(f"while the gate is uncertain: {listed(record['extras'])}, one by one")
    for outcome, names in record["branches"].items():
        lines.append(f"if {RANGES[outcome].format(**record['gate'])}: {listed(names)}")
    return [*lines, *beside]


def price(record: Mapping[str, Any]) -> list[str]:
    """Return the time that a plan takes, at least and at most over the outcomes of its gate, and what it rests on."""
    named = {trial["name"]: trial for trial in record["trials"]}
    first = [named[name] for name in (*record["first"], *record["beside"])]
    lines = _estimate(record)
    if not record["branches"]:
        minutes, hours = _cost(record["trials"])
        if search := record["search"]:
            left = search["trials"] - len(record["trials"])
            minutes, hours = minutes + left * search["minutes"], hours + left * search["gpu_hours"]
        return [f"to run: about {minutes:.0f} minutes, {hours:.1f} GPU-hours", *lines]
    outcomes = [[*first, *(named[n] for n in names)] for names in record["branches"].values()]
    extras = [named[name] for name in record["extras"]]
    low = min(_cost(trials) for trials in outcomes)
    high = max(_cost([*trials, *extras]) for trials in outcomes)
    most = f", the most with all {len(extras)} further runs of an uncertain gate" if extras else ""
    price = f"to run: about {low[0]:.0f} to {high[0]:.0f} minutes, {low[1]:.1f} to {high[1]:.1f} GPU-hours{most}"
    return [price, *lines]


def _estimate(record: Mapping[str, Any]) -> list[str]:
    """Return what the times rest on, how far they were off so far, and what the shortest and longest consist of."""
    known = record["estimate"]
    if known["finished"]:
        error = f"off by {known['median_error']:.0%} in the median, {known['largest_error']:.0%} at most"
        rest = f"corrected by {known['finished']} finished trials of this storage; on each, by the others, {error}"
    else:
        rest = "at measured rates; no trial has finished in this storage yet"
    card = f" on {known['card']}" if known["card"] else ""
    lines = [f"times: a model of the work{card}, {rest} ({'; '.join(known['assumed'])})"]
    trials = sorted(record["trials"], key=lambda trial: trial["minutes"])
    for trial in {trial["variant"]: trial for trial in (*trials[:1], *trials[-1:])}.values():
        parts = ", ".join(f"{name} {minutes:.1f}" for name, minutes in trial["minutes_by_part"].items() if minutes)
        lines.append(f"{trial['variant']} by the model, minutes: {parts}")
    return lines


def _search(record: Mapping[str, Any]) -> list[str]:
    search = record["search"]
    if search is None:
        return []
    left = search["trials"] - len(record["trials"])
    over = ", ".join(search["over"])
    return [f"{search['method']} proposes {left} more trials over {over}, about {search['minutes']:.0f} minutes each"]


def _needs(campaign: Campaign) -> list[str]:
    amounts = [f"{amount:g} {resource}s" for resource, amount in needs(campaign.run_spec).items() if amount]
    lines = [f"each trial needs one node with {' and '.join(amounts)}"]
    return lines + [
        f"needs {need['phase']}: {need['reason'] if not need['passed'] else 'passed in ' + need['campaign']}"
        for need in campaign.prerequisites()
    ]


def resolution(campaign: Campaign, record: Mapping[str, Any]) -> list[str]:
    """Return what the gate and each comparison can resolve at the trials' numbers of test items.

    Args:
        campaign: the campaign.
        record: its plan's.
    """
    rows = record["trials"] or [record["search"]]
    tasks = {row["items"]: row.get("changes", {}).get("task", campaign.base.task) for row in rows}
    lines = []
    for n, task in tasks.items():
        if n is None:
            lines.append(f"{task}: what it can resolve depends on its test items, whose number only the data tell")
            continue
        of_task = f" ({task})" if len(tasks) > 1 else ""
        if campaign.phase.gated:
            ends = ", ".join(
                f"±{100 * gate_resolution(n, boundary):.1f} points of {100 * boundary:g} %"
                for boundary in (campaign.gate.passes, campaign.gate.attribute)
            )
            lines.append(
                f"gate at n = {n}{of_task}: uncertain in more than 20 % of draws where the true accuracy is within "
                f"{ends}"
            )
        family = family_size(campaign.phase)
        smallest = comparison_resolution(n, comparisons=family)
        if smallest is not None:
            of_family = f", corrected for {family} comparisons" if family > 1 else ""
            lines.append(
                f"each comparison at n = {n}{of_task}: shows a difference of {100 * smallest:.1f} points with 80 % "
                f"power (exact McNemar of two runs, {100 * DISCORDANCE:.0f} % of items discordant{of_family})"
            )
    return lines
