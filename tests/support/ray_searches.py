"""Drives a campaign's search as Ray Tune does, with trials that end at once with a given validation accuracy."""

from collections.abc import Callable
from typing import Any

from bridge_common.trial_folder import TrialFolder
from tune_spaces.campaign import Campaign
from tune_spaces.ray_tune.early_stopping import STEP, VALIDATION
from tune_spaces.ray_tune.proposals import BEST, Proposals
from tune_spaces.ray_tune.searcher import VariantSearcher
from tune_spaces.records import reuse


class SearchDriver:
    """One start of a campaign whose trials take no time; those that were handed out first end first.

    Attributes:
        policy: what ran and how it ended.
        ended: names of the trials that ended in this start.
    """

    def __init__(
        self,
        campaign: Campaign,
        value: Callable[[dict[str, Any]], float | None],
        *,
        stops: Callable[[dict[str, Any]], bool] = lambda spec: False,
        parallel: int = 1,
    ) -> None:
        """Plan the campaign and take up what it has recorded.

        Args:
            campaign: a campaign with a search.
            value: returns a trial's validation accuracy for its spec; None if the trial fails.
            stops: whether a scheduler stops the trial early.
            parallel: trials at once.
        """
        campaign.folder.mkdir(parents=True, exist_ok=True)
        campaign.freeze()
        campaign._record_start([], {})
        self.campaign, self.value, self.stops = campaign, value, stops
        self.policy, self.ended = campaign.policy(), list[str]()
        reuse.take_finished(campaign.records, self.policy, campaign.plan.trials, campaign.run_spec)
        assert campaign.phase.search is not None
        self.proposals = Proposals(*(campaign.phase.search, campaign.seeds[0], campaign.records), campaign._is_possible)
        self.searcher = VariantSearcher(
            *(self.policy, campaign.plan.trials, campaign.records, campaign.run_spec),
            parallel=parallel,
            alive=lambda node: True,
            stops_early=True,
            propose=self._propose,
        )

    def _propose(self) -> Any:
        proposal = self.proposals.next(self.policy.outcomes)
        if proposal is None:
            return None
        trial = self.campaign._add_proposal(*proposal)
        self.proposals.opened(proposal[0], trial.name)
        return trial

    def run(self, until: int | None = None) -> None:
        """Run until nothing is left, or so many trials have ended; what runs then is cut off as by a killed driver."""
        number, running = 0, list[str]()
        while until is None or len(self.ended) < until:
            config = self.searcher.suggest(f"t{number}")
            if isinstance(config, dict):
                running.append(f"t{number}")
                number += 1
            elif running:
                self._end(running.pop(0))
            else:
                assert config == "FINISHED"
                return
        if until is not None:  # the places that became free are handed out before the driver dies
            while isinstance(self.searcher.suggest(f"t{number}"), dict):
                number += 1

    def _end(self, trial_id: str) -> None:
        name = self.searcher.live[trial_id]
        folder: TrialFolder = self.campaign.trial(name)
        spec = self.campaign.plan.trials[name].spec.flat()
        value = self.value(spec)
        self.ended.append(name)
        if value is None:
            self.searcher.on_trial_complete(trial_id, error=True)
        elif self.stops(spec):
            self.searcher.on_trial_complete(trial_id, result={STEP: 3, VALIDATION: value})
        else:
            metrics = {"accuracy/bridged": value, "n": 1000, BEST: value}
            folder.write_result({"fingerprint": folder.fingerprint(), "metrics": metrics, "node_id": "n"})
            self.searcher.on_trial_complete(trial_id, result={**metrics, "final": True, "node_id": "n"})
