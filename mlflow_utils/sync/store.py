"""The requests to MLflow that syncing needs, with errors sorted by what can be done about them.

The sender imports MLflow here, in its own thread, so that neither a missing MLflow nor a store that hangs can block the
driver.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge_common import trial_files
from mlflow_utils import names
from mlflow_utils.sync.points import Point

BATCH = 1000  # points in a request, MLflow's limit
TEXTS = 100  # parameters or tags in a request, MLflow's limit
PARAM_LENGTH, TAG_LENGTH = 6000, 8000  # characters, MLflow's limits
SETTINGS = {
    # The sender retries by itself, after it has read what the store has; a blind retry would create a second run.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_NEVER = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST"}


class UnavailableError(Exception):
    """The store is unreachable or busy; the same request may succeed later."""


class RefusedError(Exception):
    """The store refuses this request, however often it is sent."""


class GoneError(Exception):
    """The run was deleted from the store."""


class Store:
    """One campaign's experiment in an MLflow store.

    Raises:
        UnavailableError: by every method, if the store is unreachable.
        RefusedError: by every method, if the store refuses the request for good.
        GoneError: by every method about a run, if the run was deleted.
    """

    def __init__(self, tracking_uri: str, campaign: str, artifacts: Path) -> None:
        """Import MLflow and open the store; a database is created, or migrated to MLflow's current schema.

        Args:
            tracking_uri: URI of a server or of a database.
            campaign: name of the experiment.
            artifacts: folder of the experiment's artifacts; not used with a server, which has its own.
        """
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        with _sorted_errors():
            from mlflow.tracking import MlflowClient

            for name in ("alembic", "mlflow.store.db.utils"):
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client = MlflowClient(tracking_uri=tracking_uri)
        self._campaign = campaign
        self._artifacts = None if tracking_uri.startswith("http") else artifacts.resolve()
        self._experiment: str | None = None

    def experiment(self) -> str:
        """Return the id of the campaign's experiment; create it, or restore a deleted one, if needed."""
        if self._experiment is None:
            with _sorted_errors():
                existing = self._client.get_experiment_by_name(self._campaign)
                if existing is None:
                    location = (self._artifacts / self._campaign).as_uri() if self._artifacts else None
                    self._experiment = str(
                        self._client.create_experiment(
                            self._campaign, location, {names.EXPERIMENT_KIND: "custom_model_development"}
                        )
                    )
                else:
                    if existing.lifecycle_stage == "deleted":
                        self._client.restore_experiment(existing.experiment_id)
                    self._experiment = str(existing.experiment_id)
        return self._experiment

    def tag_experiment(self, tags: Mapping[str, str]) -> None:
        """Set those of the experiment's tags that differ."""
        with _sorted_errors():
            has = self._client.get_experiment(self.experiment()).tags
            for name, value in tags.items():
                if has.get(name) != value:
                    self._client.set_experiment_tag(self.experiment(), name, value)

    def run_ids(self) -> set[str]:
        """Return the ids of all runs of the campaign, including deleted ones."""
        from mlflow.entities import ViewType

        return {run.info.run_id for run in self._search("", ViewType.ALL)}

    def find(self, identity: Mapping[str, str]) -> list[str]:
        """Return the ids of the runs that have all these tags, oldest first."""
        from mlflow.entities import ViewType

        kind, *others = [f"tags.`{key}` = '{value}'" for key, value in identity.items() if "'" not in value]
        runs = [
            run
            for run in self._search(" and ".join([kind, *others]), ViewType.ACTIVE_ONLY)
            if all(run.data.tags.get(key) == value for key, value in identity.items())
        ]
        return [run.info.run_id for run in sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))]

    def create(self, name: str, tags: Mapping[str, str], started: int) -> str:
        """Create a run that started at `started` (milliseconds since 1970) and return its id."""
        with _sorted_errors():
            run = self._client.create_run(self.experiment(), start_time=started, tags=dict(tags), run_name=name)
        return str(run.info.run_id)

    def remove_empty(self, run_id: str) -> None:
        """Delete a run if it has no metrics."""
        with _sorted_errors():
            if not self._client.get_run(run_id).data.metrics:
                self._client.delete_run(run_id)

    def is_active(self, run_id: str) -> bool:
        """Return whether the run exists and is not deleted."""
        try:
            with _sorted_errors():
                return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")
        except GoneError:
            return False

    def points(self, run_id: str) -> Iterator[Point]:
        """Yield all points of a run, under their recorded names; of one metric at a time, as there may be millions."""
        with _sorted_errors():
            shown = list(self._client.get_run(run_id).data.metrics)
        for name in shown:
            with _sorted_errors():
                history = self._client.get_metric_history(run_id, name)
            for metric in history:
                yield Point(names.recorded_metric(metric.key), metric.value, metric.timestamp, metric.step)

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Send up to `BATCH` points; MLflow keeps a point that it already has once."""
        from mlflow.entities import Metric

        with _sorted_errors():
            # What a run has first its compare page opens on.
            ordered = sorted(points, key=lambda point: point.name not in names.HEADLINES)
            metrics = [Metric(names.mlflow_metric(p.name), p.value, p.time, p.step) for p in ordered]
            self._client.log_batch(run_id, metrics=metrics)

    def describe(self, run_id: str, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        """Set tags, and parameters that the run lacks.

        MLflow does not let a parameter change. New values of known parameters go to the tag `params_changed`.
        """
        from mlflow.entities import Param, RunTag

        in_words = {names.metric_name(name): names.as_text(value) for name, value in params.items()}
        given = {name: names.cut(text, PARAM_LENGTH) for name, text in in_words.items()}
        with _sorted_errors():
            has = self._client.get_run(run_id).data.params if given else {}
            changed = {name: value for name, value in given.items() if has.get(name, value) != value}
            texts = {names.metric_name(name): names.as_text(value) for name, value in tags.items() if value is not None}
            if changed:
                texts[names.CHANGED_PARAMS] = ", ".join(f"{name}={value}" for name, value in changed.items())
            new = [Param(name, value) for name, value in given.items() if name not in has]
            labels = [RunTag(name, names.cut(value, TAG_LENGTH)) for name, value in texts.items()]
            for at in range(0, max(len(new), len(labels)), TEXTS):
                self._client.log_batch(run_id, params=new[at : at + TEXTS], tags=labels[at : at + TEXTS])

    def upload(self, run_id: str, path: Path, folder: str | None) -> None:
        """Upload a file, or the files of a folder, to `folder` of the run's artifacts, replacing existing ones.

        Of a folder that is being written, hidden files are left out: they are about to get their final name. So are
        links to what lies elsewhere, which whoever writes into the storage may have made.
        """
        files = [path]
        if path.is_dir():
            inside = path.resolve()
            files = [
                file
                for file in sorted(path.rglob("*"))
                if file.is_file() and not file.name.startswith(".") and file.resolve().is_relative_to(inside)
            ]
        with _sorted_errors():
            for file in files:
                parts = [folder, *file.relative_to(path.parent).parent.parts]
                self._client.log_artifact(run_id, str(file), "/".join(filter(None, parts)) or None)

    def set_status(self, run_id: str, status: str, ended: int | None) -> None:
        """Set a run's status; a final one with the end of the run, in milliseconds since 1970."""
        with _sorted_errors():
            if status in trial_files.FINAL:
                self._client.set_terminated(run_id, status, end_time=ended)
            else:
                self._client.update_run(run_id, status=status)

    def _search(self, query: str, view: Any) -> Iterator[Any]:
        token = None
        while True:
            with _sorted_errors():
                page = self._client.search_runs(
                    [self.experiment()], query, run_view_type=view, max_results=500, page_token=token
                )
            yield from page
            token = page.token
            if not token:
                return


@contextmanager
def _sorted_errors() -> Iterator[None]:
    """Turn an error of MLflow into one of the three above by its code; without a known code it counts as temporary."""
    try:
        yield
    except (UnavailableError, RefusedError, GoneError):
        raise
    except FileNotFoundError as error:
        raise RefusedError(str(error)) from error
    except Exception as error:
        code = getattr(error, "error_code", None)
        message = str(error).split("\n", 1)[0][:300] or type(error).__name__
        if code == "RESOURCE_DOES_NOT_EXIST":
            raise GoneError(message) from error
        if code in _NEVER:
            raise RefusedError(message) from error
        raise UnavailableError(message) from error
