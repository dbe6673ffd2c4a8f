"""The Ray Tune stopper that carries the gate: it ends the experiment where the gate has passed."""

from typing import Any

from ray.tune import Stopper

from tune_spaces.gate.policy import Policy
from tune_spaces.records.campaign_folder import outcome_of


class GateStopper(Stopper):
    """Ends the experiment as soon as its trials are decided and nothing is left to do.

    It never cuts a trial short: turning `stop_all` true while one runs would end that trial without telling the
    searcher. It learns a trial's outcome when Tune repeats the trial's last result with `done`.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._ended = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take note of a trial's last result."""
        if result.get("done") and result.get("final"):
            config = result["config"]
            self.policy.observe(config["name"], outcome_of(result, config["folder"], result.get("node_id")))
            self._ended = self.policy.finished
        return False

    def stop_all(self) -> bool:
        """Whether the campaign's tree is walked to its end."""
        return self._ended
