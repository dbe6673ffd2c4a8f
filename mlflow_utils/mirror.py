"""A copy of a campaign's folder that follows what MLflow has of it, for machines that do not see the storage.

All that reads a campaign's folder can read the copy: it has the campaign's own files, and of each trial the attempts,
the latest metrics and the result. It lacks training curves and checkpoints.
"""

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bridge_common import files, trial_files
from bridge_common.errors import UserError, reason_of
from bridge_common.trial_folder import TrialFolder
from mlflow_utils import names
from mlflow_utils.sync.store import SETTINGS
from mlflow_utils.tracking_uri import check, shown

SILENT_S = 180.0  # after so long without a sign of life a driver counts as gone
_ONCE = (trial_files.CAMPAIGN,)
_OFTEN = (trial_files.PLAN, trial_files.GATE, trial_files.SCHEDULE)
_REQUIRED = (trial_files.CAMPAIGN, trial_files.PLAN)


@contextmanager
def mirrored(tracking_uri: str, campaign: str | None = None) -> "Iterator[Mirror]":
    """Yield a copy of a campaign in a temporary folder, which is removed afterwards.

    Args:
        tracking_uri: the MLflow store.
        campaign: its name; by default the one whose phase began last.

    Raises:
        UserError: the store cannot be reached, or has no such campaign.
    """
    with tempfile.TemporaryDirectory(prefix="mirror-") as folder:
        mirror = Mirror(tracking_uri, campaign, Path(folder))
        mirror.update()
        yield mirror


class Mirror:
    """The copy.

    Attributes:
        storage: folder of the copy, as a storage with this campaign alone.
        campaign: name of the campaign.
        driven: whether a process runs the campaign, as far as MLflow knows.
    """

    def __init__(self, tracking_uri: str, campaign: str | None, storage: Path) -> None:
        """Look for the campaign.

        Args:
            tracking_uri: the MLflow store.
            campaign: name of the campaign; by default the one whose phase began last.
            storage: folder for the copy.

        Raises:
            UserError: the store cannot be reached, or has no such campaign.
        """
        check(tracking_uri)
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=tracking_uri)
        self._uri, self.storage, self.driven = tracking_uri, storage, False
        self._experiment, self.campaign = self._find(campaign)
        self.folder = storage / self.campaign
        self._attempts: dict[str, int] = {}  # status events that were written, by run
        self._step: dict[str, tuple[int, int]] = {}  # step and time of the metrics that were written, by run
        self._seen: tuple[float, float] = (0.0, 0.0)  # the driver's last sign of life, and when it was noticed here

    def update(self) -> None:
        """Bring the copy up to date.

        Raises:
            UserError: the store does not have the campaign's files.
        """
        phases = self._runs("phase")
        if not phases:
            raise UserError(f"MLflow at {shown(self._uri)} has no phase of {self.campaign} yet: try again in a moment")
        first = min(phases, key=lambda run: run.info.start_time)
        once = [name for name in _ONCE if not (self.folder / name).is_file()]
        if missing := [name for name in self._download(first, [*once, *_OFTEN], self.folder) if name in _REQUIRED]:
            raise UserError(
                f"MLflow at {shown(self._uri)} does not have {missing[0]} of campaign {self.campaign}: use a tracking "
                "server, which keeps files itself"
            )
        # The run of phase 1 ends before those of phase 1.5 have, whose trials may still be on their way to the store.
        running = any(phase.info.status == trial_files.RUNNING for phase in phases)
        driven = running and self._is_alive(phases)
        for run in self._runs("trial"):
            self._update_trial(run)
        self.driven = driven  # last: a campaign that has ended is read no further, so the copy has to be whole

    def refresh(self) -> str | None:
        """Bring the copy up to date; return why that failed, or None. The copy then stays as it was."""
        try:
            self.update()
        except Exception as error:  # a server that is away for a while comes back
            return str(error).splitlines()[0] if str(error) else type(error).__name__
        return None

    def _find(self, campaign: str | None) -> tuple[str, str]:
        if campaign is not None:
            experiment = self._client.get_experiment_by_name(campaign)
            if experiment is None:
                raise UserError(f"MLflow at {shown(self._uri)} has no campaign {campaign!r}")
            return str(experiment.experiment_id), campaign
        known = {str(each.experiment_id): each.name for each in self._client.search_experiments()}
        phases = self._client.search_runs(
            list(known), f"tags.{names.KIND} = 'phase'", order_by=["attributes.start_time DESC"], max_results=1
        )
        if not phases:
            raise UserError(f"MLflow at {shown(self._uri)} has no campaign yet")
        return str(phases[0].info.experiment_id), known[str(phases[0].info.experiment_id)]

    def _runs(self, kind: str) -> list[Any]:
        runs, token = [], None
        while True:
            page = self._client.search_runs([self._experiment], f"tags.{names.KIND} = '{kind}'", page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def _download(self, run: Any, wanted: Sequence[str], folder: Path) -> list[str]:
        """Fetch files of a run, and return the names of those that it does not have.

        Raises:
            UserError: a file that is there could not be fetched.
        """
        folder.mkdir(parents=True, exist_ok=True)
        try:
            there = {file.path for file in self._client.list_artifacts(run.info.run_id)}
            for name in wanted:
                if name not in there:
                    continue
                with tempfile.TemporaryDirectory(dir=folder) as place:  # readers see a file whole
                    Path(self._client.download_artifacts(run.info.run_id, name, place)).replace(folder / name)
        except Exception as error:  # MLflow's own, and those of the store that keeps the files
            raise UserError(
                f"MLflow at {shown(self._uri)} did not give the files of {run.info.run_name} of campaign "
                f"{self.campaign}: {reason_of(error)}"
            ) from error
        return [name for name in wanted if name not in there]

    def _is_alive(self, phases: list[Any]) -> bool:
        # A phase that has just begun is a sign of life as well: the driver's first one comes after the phase's files.
        seen = max(
            sign
            for phase in phases
            for sign in (float(phase.data.tags.get(names.DRIVER_SEEN, 0)), phase.info.start_time / 1000)
        )
        if seen != self._seen[0]:
            # The other machine's clock may differ: only at the first look there is nothing else to go by.
            self._seen = (seen, time.time() if self._seen[0] else min(time.time(), seen))
        return time.time() - self._seen[1] < SILENT_S

    def _update_trial(self, run: Any) -> None:
        tags = run.data.tags
        trial = TrialFolder.of(self.folder, f"{tags[names.VARIANT]}-{tags[names.FINGERPRINT][:8]}")
        if not trial.begun:
            about = {name: tags.get(name) for name in (names.VARIANT, names.PHASE, names.FINGERPRINT)}
            trial.begin({**about, "seed": names.from_text(tags.get(names.SEED, "None")), "spec": {}})
        self._add_events(run, trial)
        if run.info.status == trial_files.FINISHED and not trial.finished:
            self._download(run, (trial_files.SAMPLES, trial_files.RESULT), trial.path)
        elif run.info.status == trial_files.FAILED and not trial.failed:
            error = run.data.tags.get(names.ERROR, "see the trial's folder")
            trial.write_error({"attempt": "", "error": error, "traceback": ""})
        elif run.info.status == trial_files.RUNNING:
            trial.clear_error()
        if names.STOPPED_STEP in tags and not trial.stopped_early:
            step = int(tags[names.STOPPED_STEP])
            best = names.from_text(tags.get(names.STOPPED_VALIDATION, "None"))
            trial.write_stopped({"step": step, "validation_accuracy": best})

    def _add_events(self, run: Any, trial: TrialFolder) -> None:
        """Append what is new: statuses, the node, and the latest value of each metric."""
        run_id, events = run.info.run_id, list[dict[str, Any]]()
        statuses = names.read_attempts(run.data.tags.get(names.ATTEMPTS, ""))
        known = self._attempts.get(run_id, 0)
        if not known and (node := run.data.tags.get("node")):
            events.append({"kind": "tags", "time": statuses[0][1] if statuses else 0.0, "values": {"node": node}})
        events += [{"kind": "status", "time": when, "status": status} for status, when in statuses[known:]]
        self._attempts[run_id] = len(statuses)
        latest = [metric for metric in run.data._metric_objs if metric.step]
        if latest:
            now = max((metric.step, metric.timestamp) for metric in latest)
            if now > self._step.get(run_id, (0, 0)):
                values = names.recorded_metrics({metric.key: metric.value for metric in latest})
                events.append({"kind": "metrics", "time": now[1] / 1000, "step": now[0], "values": values})
                self._step[run_id] = now
        for event in sorted(events, key=lambda event: float(event["time"])):
            files.append_jsonl(trial.events_file, event)
