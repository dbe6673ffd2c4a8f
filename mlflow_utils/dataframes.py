"""A campaign's trials as tidy tables, read from its folder or from MLflow, with the same columns.

`from_folder` and `from_mlflow` return one row per trial: its identity (`IDENTITY`), its parameters, and its metrics
without the training curves. `history` returns the curves, one row per trial and step. A parameter with the name of a
metric is called `param.<name>`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge_common import metric_names, trial_files
from bridge_common.errors import UserError
from mlflow_utils import declarations, names, trial_summary
from mlflow_utils.declarations import Declarations, Trial
from mlflow_utils.sync import points
from mlflow_utils.sync.store import SETTINGS

if TYPE_CHECKING:
    import pandas as pd

IDENTITY = (
    names.CAMPAIGN,
    names.PHASE,
    names.VARIANT,
    names.SEED,
    names.FINGERPRINT,
    "status",
    "started",
    "ended",
    names.FOLDER,
)
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trial and its results.

    Attributes:
        campaign: name of the campaign.
        phase: name of the phase.
        variant: name of the variant.
        seed: seed of the trial, or None if none was recorded.
        fingerprint: hash of the variant's spec.
        status: RUNNING, FINISHED, FAILED or KILLED.
        started: start, in milliseconds since 1970.
        ended: time of the last event, in milliseconds since 1970, or None before the first one.
        folder: absolute path of the trial's folder.
        params: the parameters that were declared for the trial.
        metrics: the last value of each metric, without the training curves.
    """

    campaign: str
    phase: str
    variant: str
    seed: int | None
    fingerprint: str
    status: str
    started: int
    ended: int | None
    folder: str
    params: Row
    metrics: dict[str, float]

    def row(self) -> Row:
        """Return one flat row: identity, parameters, metrics; the latter two each in alphabetical order."""
        identity = {name: getattr(self, name) for name in IDENTITY}
        taken = {*identity, *self.metrics}
        params = {f"param.{name}" if name in taken else name: value for name, value in sorted(self.params.items())}
        return {**identity, **params, **dict(sorted(self.metrics.items()))}


def from_folder(campaign: Path | str) -> "pd.DataFrame":
    """Return a campaign's trials as a table, read from its folder alone.

    Args:
        campaign: the campaign's folder, STORAGE/CAMPAIGN.

    Returns:
        One row per trial, oldest first: the columns of `IDENTITY`, one column per parameter, one per metric. `started`
        and `ended` are in UTC.

    Raises:
        UserError: there is no such folder.
    """
    return _frame(runs(campaign))


def from_mlflow(tracking_uri: str, campaign: str) -> "pd.DataFrame":
    """Return a campaign's trials as a table, read from MLflow.

    Args:
        tracking_uri: the MLflow store, as for `Tracker`.
        campaign: name of the campaign, which is that of its experiment.

    Returns:
        The table that `from_folder` returns.

    Raises:
        UserError: MLflow has no such campaign.
    """
    import os

    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri)
    experiment = client.get_experiment_by_name(campaign)
    if experiment is None:
        raise UserError(f"MLflow has no campaign {campaign!r}: `python -m cluster report` sends what a folder has")
    trials, token = [], None
    while True:
        page = client.search_runs([experiment.experiment_id], f"tags.{names.KIND} = 'trial'", page_token=token)
        trials += [_run_of_mlflow(run, campaign) for run in page]
        token = page.token
        if not token:
            return _frame(sorted(trials, key=_age))


def history(campaign: Path | str, prefixes: Iterable[str] = ("",)) -> "pd.DataFrame":
    """Return the metrics of a campaign's trials by step.

    A step that a resumed job repeated appears once, with the first value of each training curve.

    Args:
        campaign: the campaign's folder, STORAGE/CAMPAIGN.
        prefixes: return the metrics whose name starts with one of these, for example `loss/`; all by default.

    Returns:
        One row per trial and step: phase, variant, seed, fingerprint, step, and one column per metric.

    Raises:
        UserError: there is no such folder.
    """
    import pandas as pd

    wanted = tuple(prefixes)
    everything = "" in wanted
    parts = []
    for trial in _load(Path(campaign)).trials.values():
        steps: dict[int, Row] = {}
        for event in trial.folder.stream_events():
            if event["kind"] == "metrics":
                values, row = event["values"], steps.get(event["step"])
                if not everything:
                    values = {name: value for name, value in values.items() if name.startswith(wanted)}
                if row is None:
                    steps[event["step"]] = {"step": event["step"], **values}
                else:
                    row |= {n: value for n, value in values.items() if n not in row or not metric_names.is_series(n)}
        part = pd.DataFrame(list(steps.values()))
        identity = {
            names.PHASE: trial.phase,
            names.VARIANT: trial.name,
            names.SEED: trial.tags.get(names.SEED),
            names.FINGERPRINT: trial.fingerprint,
        }
        for place, (name, value) in enumerate(identity.items()):
            part.insert(place, name, value)
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def runs(campaign: Path | str) -> list[Run]:
    """Return a campaign's trials, read from its folder, oldest first; as `from_folder`, but without pandas.

    Raises:
        UserError: there is no such folder.
    """
    folder = Path(campaign)
    declared = _load(folder)
    return sorted((_run_of_trial(folder, trial, declared) for trial in declared.trials.values()), key=_age)


def _age(run: Run) -> tuple[int, str, str]:
    return run.started, run.phase, run.variant


def _load(campaign: Path) -> Declarations:
    if not campaign.is_dir():
        raise UserError(f"there is no campaign in {campaign}: `python -m cluster status` lists those there are")
    return declarations.load(campaign)


def _run_of_trial(campaign: Path, trial: Trial, declared: Declarations) -> Run:
    reported, metrics, first, last = None, {}, None, None
    for event in trial.folder.stream_events():
        last = event["time"]
        first = last if first is None else first
        if event["kind"] == "status":
            reported = event["status"]
        elif event["kind"] == "metrics":
            metrics.update(event["values"])
    status = trial_summary.status_of(trial.folder, reported, declared.phases[trial.phase].status)
    metrics.update(trial_summary.result_metrics(trial.folder) if status in trial_files.FINAL else {})
    return Run(
        campaign=campaign.resolve().name,
        phase=trial.phase,
        variant=trial.name,
        seed=trial.tags.get(names.SEED),
        fingerprint=trial.fingerprint,
        status=status,
        started=points.milliseconds(min(trial.started, first if first is not None else trial.started)),
        ended=points.milliseconds(last) if last is not None else None,
        folder=str(trial.folder.path.resolve()),
        params=trial.params,
        metrics={names.metric_name(name): float(v) for name, v in metrics.items() if not metric_names.is_series(name)},
    )


def _run_of_mlflow(run: Any, campaign: str) -> Run:
    tags = run.data.tags
    return Run(
        campaign=campaign,
        phase=tags.get(names.PHASE, ""),
        variant=tags.get(names.VARIANT, ""),
        seed=names.from_text(tags.get(names.SEED, "None")),
        fingerprint=tags.get(names.FINGERPRINT, ""),
        status=run.info.status,
        started=run.info.start_time,
        ended=run.info.end_time,
        folder=tags.get(names.FOLDER, ""),
        params={name: names.from_text(text) for name, text in run.data.params.items()},
        metrics={n: v for n, v in names.recorded_metrics(run.data.metrics).items() if not metric_names.is_series(n)},
    )


def _frame(trials: list[Run]) -> "pd.DataFrame":
    import pandas as pd

    frame = pd.DataFrame([run.row() for run in trials], columns=None if trials else list(IDENTITY))
    for name in ("started", "ended"):
        frame[name] = pd.to_datetime(frame[name], unit="ms", utc=True)
    return frame
