"""The written reports of a campaign: the results of every run, and the paths of its files.

There are three files in one folder, `paper_writing` by default. Their sections can be generated again at any time from
the campaign's folder; `editable_sections` keeps what people write into the files.

    CODEX_REPORT.md            every run in full
    LOG.md                     one line per run, in the order in which they ended
    EXPERIMENTS_SUMMARY.md     one table per campaign, with the gate's decision
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge_common import files, metric_names, trial_files
from bridge_common.metric_names import CONDITIONS
from bridge_common.shown_names import condition_name, group_name
from bridge_common.trial_folder import TrialFolder
from bridge_common.visible_text import visible
from mlflow_utils import dataframes
from mlflow_utils.dataframes import Run
from mlflow_utils.reports import editable_sections

REPORT, LOG, SUMMARY = "CODEX_REPORT.md", "LOG.md", "EXPERIMENTS_SUMMARY.md"
FOLDER = Path("paper_writing")
_OURS = (
    "Sections between `begin run` and `end run` comments are written by `python -m cluster report`. Everything else is "
    "yours and stays; so does a section that you edit.\n\n"
)
HEADERS = {
    REPORT: f"# Runs\n\n{_OURS}",
    LOG: f"# Log\n\n{_OURS}",
    SUMMARY: f"# Experiments\n\nIntervals are 95 % Wilson intervals. {_OURS}",
}
FILES = {
    "samples": trial_files.SAMPLES,
    "events": trial_files.EVENTS,
    "metrics": trial_files.METRICS,
    "result": trial_files.RESULT,
    "spec": trial_files.SPEC,
}


def update(campaign: Path, out: Path = FOLDER) -> list[Path]:
    """Bring the reports up to date with a campaign's folder.

    Args:
        campaign: the campaign's folder, STORAGE/CAMPAIGN.
        out: folder of the reports.

    Returns:
        The files that changed.

    Raises:
        UserError: there is no such campaign, another process is writing, or a report is not UTF-8 text.
    """
    runs = dataframes.runs(Path(campaign))
    done = sorted((run for run in runs if run.status in trial_files.FINAL), key=lambda run: run.ended or run.started)
    keys = [f"{run.campaign}/{run.phase}/{Path(run.folder).name}" for run in done]
    documents = {
        REPORT: {key: run_section(run, out) for key, run in zip(keys, done, strict=True)},
        LOG: {key: log_line(run, out) for key, run in zip(keys, done, strict=True)},
        SUMMARY: {Path(campaign).resolve().name: summary_section(Path(campaign), runs, out)} if runs else {},
    }
    return editable_sections.update(Path(out), documents, HEADERS)


def run_section(run: Run, out: Path) -> str:
    """Return a run in full: its conditions with intervals and groups, its settings, and the paths of its files."""
    title = f"## {run.campaign} · {run.phase} · {run.variant} · seed {run.seed}"
    took = f", {_duration(run.metrics[metric_names.SECONDS])}" if run.metrics.get(metric_names.SECONDS) else ""
    hours = f", {run.metrics[metric_names.GPU_HOURS]:.2f} GPU-hours" if run.metrics.get(metric_names.GPU_HOURS) else ""
    parts = [title, f"{run.status} on {_date(run)}{took}{hours}. Fingerprint `{run.fingerprint}`."]
    parts += [_failure(run)] if run.status == trial_files.FAILED else []
    parts += [_condition_table(run)]
    differences = {
        "gain (bridged − target alone)": run.metrics.get(metric_names.GAIN),
        "information (bridged − shuffled soft)": run.metrics.get(metric_names.INFORMATION),
    }
    measured = [f"{name} {100 * value:+.1f} points" for name, value in differences.items() if value is not None]
    parts += ["; ".join(measured) + "."] if measured else []
    params = [f"`{name}` {_value(value)}" for name, value in run.params.items()]
    parts += ["Settings: " + ", ".join(params) + "."] if params else []
    paths = {name: Path(run.folder) / file for name, file in FILES.items()}
    parts += ["\n".join(f"- {name}: `{_path(path, out)}`" for name, path in paths.items() if path.exists())]
    return "\n\n".join(part for part in parts if part)


def log_line(run: Run, out: Path) -> str:
    """Return a run as one line of a list."""
    cells = [
        _date(run),
        f"{run.campaign}/{run.phase}",
        f"{run.variant}, seed {run.seed}",
        run.status,
    ]
    if metric_names.accuracy("bridged") in run.metrics:
        cells += [f"bridged {_percent(run.metrics[metric_names.accuracy('bridged')])} {_interval(run, 'bridged')}"]
    if metric_names.GAIN in run.metrics:
        cells += [f"gain {100 * run.metrics[metric_names.GAIN]:+.1f} points"]
    trial = TrialFolder(Path(run.folder))
    cells += [f"`{_path(trial.samples or trial.path, out)}`"]
    return "- " + " · ".join(cells)


def summary_section(campaign: Path, runs: list[Run], out: Path) -> str:
    """Return the gate's decision and a table of the campaign's runs."""
    parts = [f"## {campaign.resolve().name}"]
    gate = campaign / trial_files.GATE
    if gate.exists():
        parts += [_gate(files.read_json(gate))]
    fields = list(dict.fromkeys(name for run in runs for name in run.params))
    head = ["phase", "variant", "seed", "status", *fields, "bridged", "95 % interval", "n", "target alone", "gain"]
    head += ["information", "samples"]
    rows = [_table_row(head), _table_row(["---"] * len(head))]
    for run in sorted(runs, key=lambda run: run.phase):
        samples = TrialFolder(Path(run.folder)).samples
        cells = [run.phase, run.variant, run.seed, run.status]
        cells += [_value(run.params[name]) if name in run.params else "" for name in fields]
        cells += [_percent(run.metrics.get(metric_names.accuracy("bridged"))), _interval(run, "bridged")]
        cells += [
            f"{run.metrics[metric_names.N]:g}" if metric_names.N in run.metrics else "",
            _percent(run.metrics.get(metric_names.accuracy("target_alone"))),
        ]
        cells += [
            f"{100 * run.metrics[name]:+.1f}" if name in run.metrics else ""
            for name in (metric_names.GAIN, metric_names.INFORMATION)
        ]
        cells += [f"`{_path(samples, out)}`" if samples else ""]
        rows += [_table_row(cells)]
    return "\n\n".join(part for part in [*parts, "\n".join(rows)] if part)


def _condition_table(run: Run) -> str:
    """Return a table of the run's conditions; empty if none was evaluated."""
    conditions = [name for name in CONDITIONS if metric_names.accuracy(name) in run.metrics]
    if not conditions:
        return ""
    start = metric_names.accuracy("bridged") + "/"
    groups = [name.removeprefix(start) for name in run.metrics if name.startswith(start)]
    task = (TrialFolder(Path(run.folder)).spec() or {}).get("spec", {}).get("task")
    rows = [
        _table_row(
            [
                "condition",
                "accuracy",
                "95 % interval",
                "correct",
                "flexible",
                *(group_name(group, task) for group in groups),
            ]
        )
    ]
    rows += [_table_row(["---"] * (5 + len(groups)))]
    for name in conditions:
        correct, n = run.metrics.get(f"correct/{name}"), run.metrics.get(metric_names.N)
        counts = f"{correct:g} of {n:g}" if correct is not None and n is not None else ""
        accuracy, flexible = run.metrics[metric_names.accuracy(name)], run.metrics.get(f"flexible/{name}")
        by_group = [_percent(run.metrics.get(metric_names.accuracy(name, group))) for group in groups]
        rows += [
            _table_row(
                [condition_name(name), _percent(accuracy), _interval(run, name), counts, _percent(flexible), *by_group]
            )
        ]
    return "\n".join(rows)


def _gate(record: Any) -> str:
    """Return the gate's last decision as a sentence.

    Args:
        record: content of `gate.json`.
    """
    decisions = record.get("decisions") if isinstance(record, dict) else None
    if not decisions:
        return "Gate: not decided."
    last = decisions[-1]
    branch = last.get("branch")
    passed = "passed" if branch == "pass" else f"not passed (branch `{branch}`)"
    text = f"Gate: {passed} at {_percent(last.get('accuracy'))}"
    if "low" in last and "high" in last:
        text += f" [{100 * last['low']:.1f}, {100 * last['high']:.1f}] on {last.get('n')} items"
        text += f" in {last['clusters']} clusters" if last.get("clusters") else ""
        text += " (interval over items, seeds left out)"
    if last.get("uncertain"):
        text += f"; *uncertain*: {last.get('doubt') or 'the interval straddles a boundary'}"
    settings = record.get("settings") or {}
    if "passes" in settings and "attribute" in settings:
        text += f" (boundaries {_percent(settings['passes'])} and {_percent(settings['attribute'])})"
    return text + "."


def _failure(run: Run) -> str:
    error = (TrialFolder(Path(run.folder)).error() or {}).get("error", "")
    return f"It failed: `{visible(error).replace('`', chr(39))}`" if error else ""


def _table_row(cells: list[Any]) -> str:
    return "| " + " | ".join(visible(str(cell)).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _interval(run: Run, condition: str) -> str:
    low, high = (
        run.metrics.get(metric_names.accuracy_low(condition)),
        run.metrics.get(metric_names.accuracy_high(condition)),
    )
    return "" if low is None or high is None else f"[{100 * low:.1f}, {100 * high:.1f}]"


def _value(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _date(run: Run) -> str:
    return datetime.fromtimestamp((run.ended or run.started) / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _path(path: Path, out: Path) -> str:
    """Return a path relative to the reports, or absolute if the two have nothing but the root in common."""
    path, out = path.resolve(), Path(out).resolve()
    return os.path.relpath(path, out) if path.parts[1:2] == out.parts[1:2] else str(path)
