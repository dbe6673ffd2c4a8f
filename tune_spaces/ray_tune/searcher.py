"""The Ray Tune searcher that hands out the next trial of the tree, one at a time.

A trial that the branch does not ask for is never suggested, so Tune never lists or starts it. Variants share a node:
each asks for the one that ran the first trial while that node is alive.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from bridge_common.trial_folder import TrialFolder
from ray_bridge import RunSpec
from tune_spaces.design import toggles
from tune_spaces.design.plan import PlannedTrial
from tune_spaces.gate.evidence import Outcome
from tune_spaces.gate.policy import Policy
from tune_spaces.ray_tune.nodes import is_alive
from tune_spaces.records import campaign_folder, reuse


class VariantSearcher(Searcher):
    """Suggests trials as the policy asks for them."""

    def __init__(self, policy: Policy, trials: Mapping[str, PlannedTrial], campaign: Path, run: RunSpec) -> None:
        """
        Args:
            policy: what runs next.
            trials: the plan's trials by name.
            campaign: the campaign's folder.
            run: where and how trials run.
        """
        super().__init__()
        self.policy, self.trials, self.campaign, self.run = policy, dict(trials), Path(campaign), run
        self.live: dict[str, str] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accept Tune's search space: suggestions are points of it."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The configuration of the next trial, None to wait for the one that runs, or FINISHED."""
        if self.live:
            return None
        reuse.take_finished(self.campaign, self.policy, self.trials, self.run)
        name = self.policy.next()
        if name is None:
            return str(Searcher.FINISHED)
        trial = self.trials[name]
        self.live[trial_id] = name
        folder = campaign_folder.begin(self.campaign, trial, self.run)
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
        """The node of the first trial, while it is alive."""
        ended = (self.policy.outcomes.get(name) for name in self.policy.first)
        node = next((outcome.node_id for outcome in ended if outcome and outcome.node_id), None)
        return node if node and is_alive(node) else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Take note of how a trial ended; a trial without a final result has failed."""
        name = self.live.pop(trial_id, None)
        if name is None:
            return
        if error or not result or not result.get("final"):
            self.policy.observe(name, Outcome(accuracy=None))
        else:
            folder = TrialFolder.of(self.campaign, name).path
            self.policy.observe(name, campaign_folder.outcome_of(result, folder, result.get("node_id")))

    def save(self, checkpoint_path: str) -> None:
        """Write the searcher's state."""
        Path(checkpoint_path).write_bytes(pickle.dumps({"outcomes": self.policy.outcomes, "live": self.live}))

    def restore(self, checkpoint_path: str) -> None:
        """Read the searcher's state; results on disk that are newer than it win."""
        state = pickle.loads(Path(checkpoint_path).read_bytes())
        self.policy.outcomes.update(state["outcomes"])
        self.live = state["live"]
        for name in self.trials:
            found = campaign_folder.outcome(TrialFolder.of(self.campaign, name))
            if found is not None:
                self.policy.observe(name, found)
