"""Points of a sweep that Tune's OptunaSearch proposes from the validation accuracies of the earlier ones.

What the search has learned is not saved: it follows from the proposals in the campaign's folder and the records of
their trials. Each proposal draws with a seed of its own, made of the campaign's seed and the proposal's number. So a
search that goes on after its driver was killed proposes what it would have proposed without that.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune.result import TRAINING_ITERATION
from ray.tune.search.optuna import OptunaSearch

from bridge_common.trial_folder import TrialFolder
from tune_spaces.design.search import Search
from tune_spaces.gate.outcome import Outcome
from tune_spaces.ray_tune.early_stopping import STEP, VALIDATION
from tune_spaces.ray_tune.search_space import domain
from tune_spaces.records.campaign_folder import CampaignFolder

BEST = "validation/best_accuracy"
"""What a finished job reports: the validation accuracy of the weights that it selected, without any test item."""
STARTUP = 10  # points at random before the estimator proposes any (Optuna's default)
REPEATS = 5  # proposals of points that are known or impossible, before one is drawn at random among the others
_STUDY = "sweep"


class Proposals:
    """Proposes points, and learns from the records of their trials."""

    def __init__(
        self,
        search: Search,
        seed: int,
        campaign: CampaignFolder,
        possible: Callable[[Mapping[str, Any]], bool] = lambda point: True,
    ) -> None:
        """Learn from the records of earlier starts.

        Args:
            search: the settings and their values.
            seed: the campaign's.
            campaign: its folder.
            possible: whether a job can have the settings of a point together.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.search, self.seed, self.campaign, self._possible = search, seed, campaign, possible
        self._distributions = OptunaSearch.convert_search_space({axis.field: domain(axis) for axis in search.axes})
        storage, sampler = optuna.storages.InMemoryStorage(), SeededByNumber(seed)
        self._optuna = OptunaSearch(
            *(self._distributions, VALIDATION, "max"), sampler=sampler, study_name=_STUDY, storage=storage
        )
        self._study = optuna.load_study(study_name=_STUDY, storage=storage, sampler=sampler)
        self._asked = 0
        self._open: dict[str, str] = {}  # keys of proposals whose value is not known, by the trial's name
        for record in campaign.proposals():
            self._take_up(record)

    def next(self, outcomes: Mapping[str, Outcome]) -> tuple[int, dict[str, Any]] | None:
        """Return the number of the next proposal and its point, as drawn; None if no possible point is left.

        Args:
            outcomes: how the trials ended that have ended, by name.
        """
        for name in [name for name in self._open if name in outcomes]:
            self._tell(self._open.pop(name), self.campaign.trial(name), outcomes[name])
        seen = [self.search.rounded(record["point"]) for record in self.campaign.proposals()]
        for _ in range(REPEATS):
            point = self._ask()
            if (rounded := self.search.rounded(point)) not in seen and self._possible(rounded):
                return self._asked - 1, point
            self._optuna.on_trial_complete(str(self._asked - 1), error=True)  # nothing is to be learned from it
        unseen = self.search.unseen(seen, random.Random(f"{self.seed}/{self._asked}"), self._possible)
        if unseen is None:
            self.campaign.end_proposals()
            return None
        self._study.enqueue_trial(unseen)
        return self._asked, self._ask()

    def opened(self, number: int, trial: str) -> None:
        """Expect a trial's records to tell the value of a proposal."""
        self._open[trial] = str(number)

    def _ask(self) -> dict[str, Any]:
        point = self._optuna.suggest(str(self._asked))
        self._asked += 1
        return {axis.field: point[axis.field] for axis in self.search.axes}

    def _take_up(self, record: Mapping[str, Any]) -> None:
        """Enter a recorded proposal with what is known of it."""
        while self._asked < record["number"]:  # proposed, and known already or impossible
            self._study.add_trial(self._trial(TrialState.FAIL, record["point"]))
            self._asked += 1
        trial = self.campaign.trial(record["trial"])
        value, steps = value_of(trial)
        if value is None:  # it goes on, or is tried again
            self._study.enqueue_trial(record["point"])
            self._ask()
            self._open[record["trial"]] = str(record["number"])
            return
        state = TrialState.PRUNED if steps is not None else TrialState.COMPLETE
        self._study.add_trial(self._trial(state, record["point"], value, {} if steps is None else {steps: value}))
        self._asked += 1

    def _trial(
        self,
        state: TrialState,
        point: Mapping[str, Any],
        value: float | None = None,
        values: Mapping[int, float] | None = None,
    ) -> FrozenTrial:
        return create_trial(
            state=state,
            value=value,
            params=dict(point),
            distributions=self._distributions,
            intermediate_values=dict(values or {}),
        )

    def _tell(self, key: str, trial: TrialFolder, outcome: Outcome) -> None:
        value, steps = (None, None) if outcome.failed else value_of(trial)
        if value is None:
            self._optuna.on_trial_complete(key, error=True)
        elif steps is not None:  # stopped early, which Optuna calls pruned
            self._optuna.on_trial_result(key, {VALIDATION: value, TRAINING_ITERATION: steps})
            self._optuna.on_trial_complete(key)
        else:
            self._optuna.on_trial_complete(key, {VALIDATION: value})


class SeededByNumber(BaseSampler):
    """Optuna's TPE sampler, with a seed that depends on the number of the proposal alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._sampler: TPESampler = self._of(0)

    def _of(self, number: int) -> TPESampler:
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        return TPESampler(n_startup_trials=STARTUP, seed=seed)

    def before_trial(self, study: Any, trial: FrozenTrial) -> None:
        """Take the sampler of this proposal."""
        self._sampler = self._of(trial.number)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> Any:
        """See `BaseSampler`."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: FrozenTrial, search_space: Any) -> Any:
        """See `BaseSampler`."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        """See `BaseSampler`."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


def value_of(trial: TrialFolder) -> tuple[float | None, int | None]:
    """Return a trial's validation accuracy, and its step if it was stopped early; None and None if it has none."""
    result = trial.result()
    if result is not None:
        value = result["metrics"].get(BEST)
        return None if value is None else float(value), None
    stopped = trial.stopped() if trial.stopped_early else None
    if stopped is None or stopped.get(VALIDATION) is None:
        return None, None
    return float(stopped[VALIDATION]), int(stopped[STEP])
