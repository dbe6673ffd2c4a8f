"""Show a running campaign for `status --watch`: state, node, step, accuracy and time left of each trial, GPU-hours."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.monitoring.snapshot import ORDER, Snapshot, TrialState, Watcher
from cluster.monitoring.summary import gate_lines
from tune_spaces.campaign import Campaign
from tune_spaces.records.campaigns import choose

MOST_ROWS = 30


def watch_campaign(storage: Path, name: str | None, every: float, tracking_uri: str | None = None) -> None:
    """Show a campaign until no process runs it any more. It may run on another machine.

    At a terminal the table is replaced; elsewhere it is printed again whenever the state of a trial has changed, and
    when nobody runs the campaign any more.

    Args:
        storage: folder of all campaigns.
        name: the campaign's name; the one started last if None.
        every: seconds between two readings.
        tracking_uri: an MLflow store to read instead of the storage, which this machine need not see.

    Raises:
        UserError: if there is no such campaign, or the store does not answer.
    """
    if tracking_uri is None:
        _watch(Watcher(Campaign.load(storage, choose(storage, name))), every)
        return
    from mlflow_utils.mirror import mirrored

    with mirrored(tracking_uri, name) as mirror:
        campaign = Campaign.load(mirror.storage, mirror.campaign)
        _watch(Watcher(campaign, driven=lambda: mirror.driven), every, mirror.refresh)


def _watch(watcher: Watcher, every: float, refresh: Callable[[], str | None] | None = None) -> None:
    from rich.console import Console

    console = Console(highlight=False, width=None if Console().is_terminal else 140)
    with _screen(console) as show:
        shown = None
        while True:
            snapshot = watcher.snapshot()
            states = snapshot.counts(), [bool(trial.note) for trial in snapshot.trials], snapshot.driven
            if console.is_terminal or states != shown:
                show(render(watcher.campaign, snapshot))
            shown = states
            if not snapshot.driven:
                return
            time.sleep(every)
            if refresh is not None and (failure := refresh()) is not None:
                console.print(f"{time.strftime('%H:%M:%S')} no answer: {failure}", markup=False, soft_wrap=True)


def render(campaign: Campaign, snapshot: Snapshot) -> Any:
    """Return the table of a snapshot, with a line of totals above and the gate below."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("trial", "seed", "state", "node", "step", "accuracy", "ran", "left"):
        table.add_column(heading, justify="left" if heading in ("trial", "state", "node") else "right")
    ordered = sorted(snapshot.trials, key=lambda trial: ORDER.index(trial.state))
    for trial in ordered[:MOST_ROWS]:
        table.add_row(*map(Text, _cells(trial)))
    if len(ordered) > MOST_ROWS:
        table.add_row(Text(f"and {len(ordered) - MOST_ROWS} more"))
    lines = [Text(line) for line in gate_lines(campaign.policy())]
    return Group(Text(headline(campaign, snapshot)), table, *lines)


def headline(campaign: Campaign, snapshot: Snapshot) -> str:
    """Return the campaign's totals in one line."""
    counts = ", ".join(f"{count} {state}" for state, count in snapshot.counts().items())
    line = f"{time.strftime('%H:%M:%S')} {campaign.name}: {counts or 'no trial'}"
    if not snapshot.driven:
        line += "; nobody runs it"
    elif snapshot.without_place:
        line += f"; {snapshot.without_place} wait for their GPUs or CPUs"
    elif snapshot.left_to:
        line += f"; the next free place goes to campaign {snapshot.left_to}"
    if campaign.run_spec.use_gpu:
        line += f"; {snapshot.gpu_hours:.1f} GPU-hours"
    return line + (f"; about {duration(snapshot.left)} left" if snapshot.left else "")


def duration(seconds: float) -> str:
    """Return seconds in words of one or two units: 45 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _cells(trial: TrialState) -> tuple[str, ...]:
    accuracy = "" if trial.accuracy is None else f"{trial.accuracy:.1%}" + ("" if trial.on_test else " (validation)")
    return (
        trial.variant,
        str(trial.seed),
        f"{trial.state}: {trial.note}" if trial.note else trial.state,
        trial.node or "",
        f"{trial.step}/{trial.steps}" if trial.state in ("running", "stopped", "finished", "reused") else "",
        accuracy,
        duration(trial.seconds) if trial.seconds else "",
        duration(trial.left) if trial.left else "",
    )


@contextmanager
def _screen(console: Any) -> Iterator[Any]:
    if not console.is_terminal:
        yield console.print
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False) as live:
        yield lambda shown: live.update(shown, refresh=True)
