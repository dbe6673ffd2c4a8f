"""The Ray Tune callback that drops what Tune holds of an ended trial and nobody reads.

For each number that a trial ever reported, Tune keeps extremes, a mean and two windows of latest values until the
experiment ends, writes them into every snapshot of the experiment, and keeps the text of each window for good in the
set by which it logs once. That is 2 to 3 KiB a metric, of which a translator job has some 140. Only an analysis over
all of a trial's reports (`ResultGrid.get_best_result` with a scope) reads them; campaigns have these on disk.
"""

from typing import Any

from ray.tune import Callback


class ForgetsEnded(Callback):
    """Empties the statistics of a trial's metrics once it has ended; its last result stays."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Drop the statistics of a trial that has ended by itself or was stopped; all readers of it were called."""
        _forget(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Drop the statistics of a trial that has failed and is not tried again."""
        _forget(trial)


def _forget(trial: Any) -> None:
    # By new dictionaries: an assignment also drops the text that Tune keeps for its next snapshot.
    trial.run_metadata.metric_analysis = {}
    trial.run_metadata.metric_n_steps = {}
