"""Asynchronous successive halving whose rungs outlive the driver.

Tune keeps the results at each rung in the driver's memory. A sweep whose driver was killed would compare the trials
that are left with one another alone, and let through what the earlier ones would have stopped. So every result is
written down before it is judged, and judged again in the same order at the next start.
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from tune_spaces.records.campaign_folder import CampaignFolder


class RecordedRungs(AsyncHyperBandScheduler):
    """Tune's scheduler with the results of earlier starts.

    Attributes:
        stopped: results on which earlier starts stopped a trial, by the trial's name.
    """

    def __init__(self, campaign: CampaignFolder, *, time_attr: str, metric: str, **settings: Any) -> None:
        """Judge the recorded results again.

        Args:
            campaign: the campaign's folder, which keeps the results.
            time_attr: name of the step in a result.
            metric: name of the compared measure, of which more is better.
            settings: Tune's own (`max_t`, `grace_period`, `reduction_factor`, `stop_last_trials`).
        """
        super().__init__(time_attr=time_attr, metric=metric, mode="max", **settings)
        self._campaign: CampaignFolder | None = None
        self._reads = (time_attr, metric)
        self.stopped: dict[str, dict[str, Any]] = {}
        known: set[str] = set()
        for result in campaign.sweep_results():
            trial = SimpleNamespace(config={"name": result["trial"]})
            if result["trial"] not in known:
                self.on_trial_add(None, trial)
                known.add(result["trial"])
            if self.on_trial_result(None, trial, result) == TrialScheduler.STOP:
                self.stopped[result["trial"]] = result
        self._campaign = campaign

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take up a trial by its name: Tune gives it another id at each start."""
        super().on_trial_add(tune_controller, _named(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Record a result, and return whether the trial goes on."""
        if self._campaign is not None and all(name in result for name in self._reads):
            self._campaign.add_sweep_result({"trial": _named(trial).trial_id, **{n: result[n] for n in self._reads}})
        return str(super().on_trial_result(tune_controller, _named(trial), result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> None:
        """End a trial; its last result was judged when it came."""
        super().on_trial_complete(tune_controller, _named(trial), result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Forget that a trial runs; its results stay."""
        super().on_trial_remove(tune_controller, _named(trial))


def _named(trial: Any) -> Any:
    """Return what Tune's scheduler reads of a trial, its id, which is the name here."""
    return SimpleNamespace(trial_id=trial.config["name"])
