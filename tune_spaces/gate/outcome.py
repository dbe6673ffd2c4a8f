"""How a trial ended, as far as the gate needs to know."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge_common import metric_names
from bridge_common.errors import UserError, reason_of
from bridge_common.trial_folder import TrialFolder

BRIDGED = "bridged"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended.

    Attributes:
        accuracy: accuracy of the bridged condition, or None if the trial failed or was stopped early.
        correct: number of items answered correctly, or None if the job did not report it.
        n: number of items, or None if the job did not report it.
        folder: the trial's folder, with `samples.jsonl` if the job wrote one.
        node_id: the Ray node on which the trial ran.
        stopped: whether a sweep's scheduler ended the trial.
    """

    accuracy: float | None
    correct: int | None = None
    n: int | None = None
    folder: str = ""
    node_id: str | None = None
    stopped: bool = False

    @classmethod
    def of_metrics(cls, metrics: Mapping[str, Any], folder: Path | str, node_id: str | None) -> "Outcome":
        """Return the outcome of a finished trial from the metrics that its job reported."""
        n, correct = metrics.get(metric_names.N), metrics.get(f"correct/{BRIDGED}")
        return cls(
            accuracy=float(metrics[metric_names.accuracy(BRIDGED)]),
            correct=None if correct is None else int(correct),
            n=None if n is None else int(n),
            folder=str(folder),
            node_id=node_id,
        )

    @classmethod
    def of_trial(cls, trial: TrialFolder) -> "Outcome | None":
        """Read the outcome of a trial from its folder; None if it neither finished nor was stopped early.

        Raises:
            UserError: if its result holds no numbers.
        """
        result = trial.result()
        if result is None and trial.stopped_early:
            return cls(accuracy=None, folder=str(trial.path), stopped=True)
        if result is None:
            return None
        try:
            return cls.of_metrics(result["metrics"], trial.path, result.get("node_id"))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{trial.result_file} is damaged ({reason_of(error)}): remove it and resume its campaign"
            ) from error

    @property
    def failed(self) -> bool:
        """Whether the trial ended without an accuracy, although nobody stopped it early."""
        return self.accuracy is None and not self.stopped
