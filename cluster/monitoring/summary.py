"""Print a campaign's results at its end: each condition with its interval, the gain, the gate's verdict, the paths."""

import importlib.util
from pathlib import Path
from typing import Any

from bridge_common import metric_names, trial_files
from bridge_common.intervals import wilson
from bridge_common.metric_names import CONDITIONS
from bridge_common.shown_names import condition_name, group_name
from bridge_common.trial_folder import TrialFolder
from cluster.monitoring.text import WIDTH, unbroken, wrapped
from cluster.monitoring.tracking import tracking_uri_of
from cluster.program import command
from mlflow_utils.pages import campaign_url
from mlflow_utils.tracking_uri import shown
from tune_spaces.analysis.gains import gain_lines
from tune_spaces.campaign import Campaign
from tune_spaces.gate.decision import VERDICTS, Decision
from tune_spaces.gate.policy import Policy
from tune_spaces.gate.ranges import chances_in_words


def print_summary(campaign: Campaign, policy: Policy, console: Any = None, *, verbose: bool = False) -> None:
    """Print the results of a campaign: one row a variant, or the conditions of the only trial.

    Args:
        campaign: the campaign.
        policy: its policy at the end.
        console: where to print.
        verbose: print the conditions of every trial as well.
    """
    from rich.console import Console

    console = console or Console(width=None if Console().is_terminal else WIDTH, highlight=False, soft_wrap=False)
    measured = [name for name, outcome in policy.outcomes.items() if not outcome.stopped and not outcome.failed]
    several = len(measured) > 1 and all(campaign.trial(name).samples for name in measured)
    for name, outcome in policy.outcomes.items():
        folder = campaign.trial(name)
        if outcome.stopped:
            at = folder.stopped() or {}
            console.print(
                f"\n{name} was stopped early at step {at.get('step')}, validation {at.get('validation_accuracy'):.1%}",
                markup=False,
            )
        elif not outcome.failed and (verbose or not several):
            console.print(_table(campaign, name, folder))
            for line in gain_lines(folder):
                console.print(wrapped("  " + line, indent="    "), markup=False, soft_wrap=True)
    if several:
        from cluster.monitoring.final_table import final_table

        console.print(final_table(campaign), width=WIDTH)
    console.print()
    for line in [*gate_lines(policy), *_unfinished(campaign, policy), *_places(campaign)]:
        console.print(wrapped(line), markup=False, soft_wrap=True)


def _table(campaign: Campaign, name: str, folder: TrialFolder) -> Any:
    from rich.table import Table

    trial = campaign.plan.trials[name]
    table = Table(title=f"{trial.variant}, seed {trial.seed}: {trial.purpose}", title_justify="left")
    for heading in ("condition", "correct", "n", "accuracy", "95 % interval", "flexible"):
        table.add_column(heading, justify="left" if heading == "condition" else "right")
    metrics = (folder.result() or {})["metrics"]
    for condition in CONDITIONS:
        if metric_names.accuracy(condition) not in metrics:
            continue
        accuracy, n = metrics[metric_names.accuracy(condition)], int(metrics.get(metric_names.N, 0))
        flexible = metrics.get(f"flexible/{condition}")
        table.add_row(
            condition_name(condition),
            *_cells(accuracy, n),
            "" if flexible is None else f"{flexible:.1%}",
        )
        for part, value in metrics.items():
            group = part.removeprefix(f"{metric_names.accuracy(condition)}/")
            if group != part:
                table.add_row(
                    f"  {group_name(group, trial.spec.task)}", *_cells(value, int(metrics.get(f"n/{group}", 0))), ""
                )
    return table


def _cells(accuracy: float, n: int) -> tuple[str, str, str, str]:
    interval = _interval(*wilson(accuracy * n, n)).replace("[", "\\[")
    return f"{accuracy * n:.0f}", str(n), f"{accuracy:.1%}", interval


def gate_lines(policy: Policy) -> list[str]:
    """Return the gate's verdict, a line for each decision; empty if the phase has no gate."""
    if not policy.branches:
        return []
    if failed := policy.failed_first:
        return [f"gate: not decided, since {failed} failed; nothing else was run"]
    made = policy.decisions()
    return [_verdict(decision, policy) for decision in made] or ["gate: not decided yet"]


def _verdict(decision: Decision, policy: Policy) -> str:
    evidence = decision.evidence
    ends = {"passes": policy.gate.passes, "attribute": policy.gate.attribute}
    verdict = VERDICTS[decision.branch].format(**ends)
    chances = chances_in_words(decision.probabilities, **ends)
    items = f"n = {evidence.n}" + ("" if evidence.clusters is None else f" in {evidence.clusters} clusters")
    items += f" over {evidence.runs} runs" if evidence.runs > 1 else ""
    return (
        f"gate: {verdict}: {evidence.accuracy:.1%} {_interval(evidence.low, evidence.high)} at {items}"
        + (f", UNCERTAIN ({decision.doubt})" if decision.uncertain else "")
        + "; interval over items, seeds left out"
        + f"; chances of the true accuracy: {chances} (Beta posterior, Jeffreys' prior)"
    )


def print_failures(campaign: Campaign, policy: Policy, console: Any = None) -> None:
    """Print of every failed trial where its traceback and Ray's messages are, and on the last line why it failed."""
    from rich.console import Console

    console = console or Console(highlight=False)
    for name, outcome in policy.outcomes.items():
        if outcome.failed:
            console.print()
            for line in failure_lines(campaign.trial(name), campaign.folder / trial_files.RAY_LOG):
                console.print(line, markup=False, soft_wrap=True)


def failure_lines(folder: TrialFolder, ray_log: Path) -> list[str]:
    """Return that a trial failed, where more is written, and last of all the cause.

    Args:
        folder: the trial's folder.
        ray_log: the file with Ray's messages.
    """
    log = [f"Ray's and Tune's messages: {ray_log}"] if ray_log.is_file() else []
    error = folder.error()
    if error is None:
        return [f"{folder.name} failed", *log, "its process died without an error of its own"]
    return [f"{folder.name} failed", f"traceback: {folder.error_file}", *log, error["error"]]


def _unfinished(campaign: Campaign, policy: Policy) -> list[str]:
    missing = [name for name in policy.wanted() if name not in policy.outcomes]
    if policy.proposals:
        missing.append(f"{policy.proposals} trials that the search has not proposed yet")
    if not missing:
        return []
    limit = (campaign.records.schedule() or {}).get("limit")
    return [
        *([f"limit: {limit}"] if limit else []),
        f"not finished: {', '.join(missing)}",
        f"to resume: {unbroken(command('resume', '--storage', campaign.storage, '--name', campaign.name))}",
    ]


def _places(campaign: Campaign) -> list[str]:
    return [
        f"records: {unbroken(campaign.folder)}",
        *([f"card: {unbroken(card)}"] if (card := campaign.folder / trial_files.CARD).is_file() else []),
        *_tracked(campaign),
    ]


def _tracked(campaign: Campaign) -> list[str]:
    if importlib.util.find_spec("mlflow") is None:
        send = unbroken(command("report", "--storage", campaign.storage, "--name", campaign.name))
        return [f"tracking: none, since MLflow is not installed here; where it is, this sends the records: {send}"]
    uri = tracking_uri_of(campaign)
    address = campaign_url(campaign.folder, uri)
    ui = unbroken(command("ui", "--storage", campaign.storage))
    served = [] if uri.startswith("http") else [f"to view them: {ui}"]
    runs = [f"runs: {address}", f"charts: {address}&compareRunsMode=CHART"] if address else []
    return [f"tracking: {unbroken(shown(uri))}", *served, *runs]


def _interval(low: float, high: float) -> str:
    return f"[{low:.1%}, {high:.1%}]"
