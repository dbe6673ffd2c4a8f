"""The Ray Tune stopper that ends an experiment when the policy asks for no further trial."""

from collections.abc import Mapping
from typing import Any

from ray.tune import Stopper

from tune_spaces.gate.outcome import Outcome
from tune_spaces.gate.policy import Policy


class GateStopper(Stopper):
    """Ends the experiment as soon as every trial that the policy asks for has ended.

    By itself it never cuts a trial short: if `stop_all` became true while one runs, Tune would end that trial without
    telling the searcher. It learns a trial's outcome when Tune repeats the trial's last result with `done`.
    """

    def __init__(self, policy: Policy, live: Mapping[str, str] | None = None) -> None:
        """Observe trials for a policy, which searcher and stopper share.

        Args:
            policy: decides which trials run.
            live: names of running trials by Tune's id, which the searcher keeps up to date.
        """
        self.policy = policy
        self._live = {} if live is None else live
        self._ended = self._cut_short = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Observe a trial's last result; return False, since no trial is ended early."""
        if result.get("done") and result.get("final"):
            config = result["config"]
            self.policy.observe(config["name"], Outcome.of_metrics(result, config["folder"], result.get("node_id")))
            self._ended = self.policy.finished
        return False

    def cut_short(self) -> None:
        """End the experiment now, with what still runs; the caller records how those trials ended."""
        self._cut_short = True

    def stop_all(self) -> bool:
        """Return whether nothing is left to run and all that runs has a known outcome, or the end was asked for."""
        return self._cut_short or (self._ended and all(name in self.policy.outcomes for name in self._live.values()))
