"""The Ray Tune searcher that suggests the trials of the decision tree, as many at a time as may run.

A trial that the branch does not ask for is never suggested, so Tune never lists or starts it. Trials that run one after
another share a node, as long as it is alive, and with it hardware and cache.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from bridge_common import files, trial_files
from ray_bridge import RunSpec
from tune_spaces.design.parallel import AUTO, Parallel
from tune_spaces.design.plan import PlannedTrial
from tune_spaces.design.space import point, space
from tune_spaces.gate.outcome import Outcome
from tune_spaces.gate.policy import Policy
from tune_spaces.ray_tune.early_stopping import STEP, VALIDATION
from tune_spaces.ray_tune.nodes import is_alive
from tune_spaces.records.campaign_folder import CampaignFolder
from tune_spaces.records.claims import Claims
from tune_spaces.records.reuse import FinishedInStorage, take_finished


class VariantSearcher(Searcher):
    """Suggests the trials that a policy asks for."""

    def __init__(
        self,
        policy: Policy,
        trials: Mapping[str, PlannedTrial],
        campaign: CampaignFolder,
        run: RunSpec,
        *,
        parallel: Parallel = 1,
        slots: Callable[[], int] | None = None,
        alive: Callable[[str], bool] = is_alive,
        fits: Callable[[str, Mapping[str, float]], bool] | None = None,
        left_to: Callable[[int, float], str | None] | None = None,
        stops_early: bool = False,
        propose: Callable[[], PlannedTrial | None] | None = None,
        fields: Iterable[str] = (),
    ) -> None:
        """Suggest nothing yet.

        Args:
            policy: decides which trials run.
            trials: the plan's trials by name.
            campaign: the campaign's folder.
            run: workers and batches of each trial.
            parallel: trials that may run at once; `auto` for `slots`, with what follows the gate one by one.
            slots: returns how many jobs the cluster holds at once; one by default.
            alive: whether a node, by its id, is alive.
            fits: whether a trial may still start beside the running ones, given when each of them was started; any may
                by default.
            left_to: returns the campaign of the cluster to which the next free place is left, given how many trials run
                here and when their number last changed; None for this campaign, which is the default.
            stops_early: whether a scheduler may end trials, which are then recorded as stopped early.
            propose: returns the next trial of a search, which is planned by then, or None if there is none.
            fields: of the spec that a suggestion names, too; by default those in which the trials differ.
        """
        super().__init__()
        self.policy, self.trials, self.campaign, self.run = policy, dict(trials), campaign, run
        self.parallel, self._slots, self._alive, self._fits = parallel, slots, alive, fits
        self._left_to = left_to
        self._stops_early = stops_early
        self._limit = None if parallel == AUTO else int(parallel)
        self.live: dict[str, str] = {}  # names of running trials by Tune's id
        self.since: dict[str, float] = {}  # when each of them was suggested, in seconds since 1970
        self.changed = time.time()  # when the number of running trials last changed, in seconds since 1970
        self.waits = False  # whether a trial could start and has no place
        self.left_to: str | None = None  # the campaign to which the next free place is left
        self._fields = tuple(fields) or tuple(space(trial.spec.flat() for trial in trials.values()))
        self._propose = propose
        self._finished = FinishedInStorage(campaign.storage)
        self.claims = Claims(campaign)
        self.elsewhere: dict[str, str] = {}  # campaigns that run what this one waits for, by the trial's name
        self._drained = False

    def __getstate__(self) -> dict[str, Any]:
        """Return the state that Tune pickles with its configuration, without what asks the cluster and the clock."""
        return {**self.__dict__, "_slots": None, "_fits": None, "_left_to": None, "_propose": None}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accept Tune's search space: suggestions are points of it."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the configuration of the next trial, None to wait for one that runs, or FINISHED."""
        self.waits, self.left_to = False, None
        if self._drained:
            return None if self.live else str(Searcher.FINISHED)
        if self._limit is not None and len(self.live) >= self._limit:
            return None
        name = self._next()
        if name is None:
            return None if self.live or self.elsewhere else str(Searcher.FINISHED)
        if not self._has_place_for(name):
            self.waits = True
            return None
        trial = self.trials[name]
        if other := self.claims.take(trial):  # claimed since `_next` has looked
            self.elsewhere[name] = other
            return None
        self.since[name] = self.changed = time.time()
        self.live[trial_id] = name
        folder = self.campaign.begin(trial, self.run)
        return {
            "name": name,
            "variant": trial.variant,
            "phase": trial.phase,
            "seed": trial.seed,
            "fingerprint": trial.fingerprint,
            "folder": str(folder.path),
            "prefer_node": None if self._is_spread(name) else self._node(),
            **point(trial.spec.flat(), self._fields),
        }

    def drain(self) -> None:
        """Start no further trial, and ask those that run to write a checkpoint and end."""
        self._drained = True
        for name in self.running():
            self.campaign.trial(name).request_stop()

    def running(self) -> dict[str, float]:
        """Return when each running trial was suggested, in seconds since 1970, by name."""
        return {name: self.since[name] for name in list(self.live.values())}

    def _next(self) -> str | None:
        """Return the next trial that may start, and whose result will not come from a finished or a running one."""
        running = list(self.live.values())
        measured = {self.trials[name].fingerprint for name in running}
        busy = {name for name in self.policy.ready() if self.trials[name].fingerprint in measured} if running else set()
        before, self.elsewhere = self.elsewhere, self._run_elsewhere(busy)
        if before.keys() - self.elsewhere:  # what ran there has ended: its result is on disk, or it is to run here
            self._finished.forget()
        busy |= set(self.elsewhere)
        take_finished(self.campaign, self.policy, self.trials, self.run, storage=self._finished, busy=busy)
        while self._may_propose(running):
            trial = self._propose() if self._propose else None
            if trial is None:
                self.policy.proposals = 0
                break
            self.trials[trial.name] = trial
            self.policy.add(trial.name)
            if trial.fingerprint in measured:
                busy.add(trial.name)
            take_finished(self.campaign, self.policy, self.trials, self.run, storage=self._finished, busy=busy)
        ready = (name for name in self.policy.ready() if name not in busy)
        return next((name for name in ready if self._fits is None or self._fits(name, self.running())), None)

    def _run_elsewhere(self, busy: Collection[str]) -> dict[str, str]:
        """Return which trials another campaign of the storage runs now, with its name, as far as they could start."""
        found = {}
        for name in self.policy.ready():
            if name in busy or name in found:
                continue
            other = self.claims.elsewhere(self.trials[name])
            if other is None:
                break  # this one may start: the others are considered after it
            found[name] = other
        return found

    def _may_propose(self, running: Collection[str]) -> bool:
        """Return whether a search proposes its next trial now: a place is free, and no trial waits for one."""
        waits = any(name not in running for name in self.policy.ready())
        return self.policy.proposals > 0 and not waits and (not running or self._has_slot())

    def _has_place_for(self, name: str) -> bool:
        """Return whether a trial has room and no other campaign of the cluster goes first; note which one does."""
        if self.live and not self._has_room_for(name):
            return False
        self.left_to = None if self._left_to is None else self._left_to(len(self.live), self.changed)
        return self.left_to is None

    def _has_room_for(self, name: str) -> bool:
        """Return whether a trial may run beside those that run already."""
        if self._limit is not None:
            return True
        return self._is_spread(name) and self._has_slot()

    def _has_slot(self) -> bool:
        """Return whether one more job may run beside those that run already."""
        slots = self._limit if self._limit is not None else 1 if self._slots is None else self._slots()
        return len(self.live) < slots

    def _is_spread(self, name: str) -> bool:
        """Return whether a trial may run on any node, beside others."""
        return not self.policy.follows_gate(name) if self._limit is None else self._limit > 1

    def _node(self) -> str | None:
        """Return the node on which the first trial ran, or None if it is not alive or nothing ran yet."""
        outcomes = (self.policy.outcomes.get(name) for name in self.policy.first)
        node = next((outcome.node_id for outcome in outcomes if outcome and outcome.node_id), None)
        return node if node and self._alive(node) else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Observe how a trial ended; one without a final result has failed."""
        name = self.live.pop(trial_id, None)
        if name is None:
            return
        self.changed = time.time()
        self.claims.release(self.trials[name])
        if not error and not (result and result.get("final")) and self.campaign.trial(name).stop_requested():
            return  # it has written a checkpoint and goes on at the next start
        if self._stops_early and not error and result and not result.get("final"):
            self.observe_stopped(name, result)
        elif error or not result or not result.get("final"):
            self.policy.observe(name, Outcome(accuracy=None))
        else:
            folder = self.campaign.trial(name).path
            self.policy.observe(name, Outcome.of_metrics(result, folder, result.get("node_id")))

    def observe_stopped(self, name: str, result: Mapping[str, Any]) -> None:
        """Record that the scheduler has stopped a trial early, on its last result."""
        trial = self.campaign.trial(name)
        trial.write_stopped({measure: result.get(measure) for measure in (STEP, VALIDATION)})
        trial.append_status(trial_files.KILLED)
        self.policy.observe(name, Outcome(accuracy=None, folder=str(trial.path), stopped=True))

    def save(self, checkpoint_path: str) -> None:
        """Write the searcher's state as JSON: what is read back runs no code of whoever wrote it."""
        outcomes = {name: asdict(outcome) for name, outcome in self.policy.outcomes.items()}
        files.write_json(Path(checkpoint_path), {"outcomes": outcomes, "live": self.live})

    def restore(self, checkpoint_path: str) -> None:
        """Read the searcher's state, then the results on disk, which may be newer."""
        state = files.read_json(Path(checkpoint_path))
        self.policy.outcomes.update({name: Outcome(**outcome) for name, outcome in state["outcomes"].items()})
        self.live = state["live"]
        for name in self.trials:
            outcome = Outcome.of_trial(self.campaign.trial(name))
            if outcome is not None:
                self.policy.observe(name, outcome)
