"""The Ray Tune searcher that suggests the trials of the decision tree, one at a time.

A trial that the branch does not ask for is never suggested, so Tune never lists or starts it. All variants run on one
node, as long as it is alive, so that they share its hardware and its cache.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from ray_bridge import RunSpec
from tune_spaces.design import toggles
from tune_spaces.design.plan import PlannedTrial
from tune_spaces.gate.outcome import Outcome
from tune_spaces.gate.policy import Policy
from tune_spaces.ray_tune.nodes import is_alive
from tune_spaces.records import reuse
from tune_spaces.records.campaign_folder import CampaignFolder


class VariantSearcher(Searcher):
    """Suggests the trials that a policy asks for."""

    def __init__(
        self, policy: Policy, trials: Mapping[str, PlannedTrial], campaign: CampaignFolder, run: RunSpec
    ) -> None:
        """Suggest nothing yet.

        Args:
            policy: decides which trial runs next.
            trials: the plan's trials by name.
            campaign: the campaign's folder.
            run: workers and batches of each trial.
        """
        super().__init__()
        self.policy, self.trials, self.campaign, self.run = policy, dict(trials), campaign, run
        self.live: dict[str, str] = {}  # names of running trials by Tune's id

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accept Tune's search space: suggestions are points of it."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the configuration of the next trial, None to wait for the one that runs, or FINISHED."""
        if self.live:
            return None
        reuse.take_finished(self.campaign, self.policy, self.trials, self.run)
        name = self.policy.next()
        if name is None:
            return str(Searcher.FINISHED)
        trial = self.trials[name]
        self.live[trial_id] = name
        folder = self.campaign.begin(trial, self.run)
        return {
            "name": name,
            "variant": trial.variant,
            "phase": trial.phase,
            "seed": trial.seed,
            "fingerprint": trial.fingerprint,
            "folder": str(folder.path),
            "prefer_node": self._node(),
            **toggles.values(trial.spec.flat()),
        }

    def _node(self) -> str | None:
        """Return the node on which the first trial ran, or None if it is not alive or nothing ran yet."""
        outcomes = (self.policy.outcomes.get(name) for name in self.policy.first)
        node = next((outcome.node_id for outcome in outcomes if outcome and outcome.node_id), None)
        return node if node and is_alive(node) else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Observe how a trial ended; one without a final result has failed."""
        name = self.live.pop(trial_id, None)
        if name is None:
            return
        if error or not result or not result.get("final"):
            self.policy.observe(name, Outcome(accuracy=None))
        else:
            folder = self.campaign.trial(name).path
            self.policy.observe(name, Outcome.of_metrics(result, folder, result.get("node_id")))

    def save(self, checkpoint_path: str) -> None:
        """Write the searcher's state."""
        Path(checkpoint_path).write_bytes(pickle.dumps({"outcomes": self.policy.outcomes, "live": self.live}))

    def restore(self, checkpoint_path: str) -> None:
        """Read the searcher's state, then the results on disk, which may be newer."""
        state = pickle.loads(Path(checkpoint_path).read_bytes())
        self.policy.outcomes.update(state["outcomes"])
        self.live = state["live"]
        for name in self.trials:
            outcome = Outcome.of_trial(self.campaign.trial(name))
            if outcome is not None:
                self.policy.observe(name, outcome)
