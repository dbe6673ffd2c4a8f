"""One start of a campaign on Ray: a Tune experiment driven by the policy, and the requests that end it early."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bridge_common import trial_files
from bridge_common.threads import repeating
from ray_bridge import JobSpec, RunSpec
from tune_spaces.design.parallel import AUTO, Parallel
from tune_spaces.design.plan import PlannedTrial
from tune_spaces.design.space import space
from tune_spaces.gate.outcome import Outcome
from tune_spaces.gate.policy import Policy
from tune_spaces.ray_tune.connect import connected
from tune_spaces.ray_tune.interrupts import CHECKPOINT_S, NOTICED_S, Interrupts, interruptible
from tune_spaces.ray_tune.lost_ray import ends_with_ray
from tune_spaces.ray_tune.nodes import check_free
from tune_spaces.ray_tune.output import ray_messages_in
from tune_spaces.ray_tune.places import YOUNG_S, Places
from tune_spaces.ray_tune.stalls import StallWatch
from tune_spaces.ray_tune.trainable import Job, tune_trial
from tune_spaces.ray_tune.unsent_keys import keep_keys
from tune_spaces.records.campaign_folder import CampaignFolder
from tune_spaces.records.limits import LimitKeeper, Limits

if TYPE_CHECKING:
    from tune_spaces.ray_tune.proposals import Proposals
    from tune_spaces.ray_tune.searcher import VariantSearcher
    from tune_spaces.ray_tune.stopper import GateStopper

END_POLL = 0.5  # seconds between looks for a signal, a request to stop, or a limit that is reached
SCHEDULE_POLL = 2.0  # seconds between records of what runs and what waits
CHECKPOINT_WITHIN = 120.0  # seconds that jobs have to write a checkpoint at a limit
ACTOR_RETRIES = 2  # new starts of a trial whose actor died; the job resumes from its checkpoint


def fit(
    campaign: CampaignFolder,
    trials: Mapping[str, PlannedTrial],
    run: RunSpec,
    policy: Policy,
    job: Job | str,
    *,
    wait: bool,
    parallel: Parallel = AUTO,
    limits: Limits | None = None,
    stop_early: str | None = None,
    proposals: "Proposals | None" = None,
    add: Callable[[int, Mapping[str, Any]], PlannedTrial] | None = None,
    ends: Sequence[JobSpec] = (),
) -> None:
    """Run the trials that the policy asks for until it asks for none, or a stop is requested.

    Args:
        campaign: the campaign's folder.
        trials: every trial that some outcome of the gate asks for, by name.
        run: workers and batches of each trial.
        policy: decides which trial runs next; it observes how each ended.
        job: the job function of a trial.
        wait: wait for GPUs that others use; otherwise the phase is refused while they do.
        parallel: trials that may run at once; `auto` for as many as the cluster holds.
        limits: a time and GPU-hours within which the start must end.
        stop_early: `asha` to end trials whose validation accuracy falls behind; None to let all end.
        proposals: a search that proposes further trials.
        add: plans the trial of a proposal, given its number and its point.
        ends: specs at the ends of what the search varies.

    Raises:
        UserError: no node can hold a job, or none is free and `wait` is false.
    """
    with (
        interruptible(ends_process=False) as interrupts,
        connected(run),
        ends_with_ray(interrupts, campaign.record_stop),
    ):
        from ray import tune
        from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback

        if not wait:
            check_free(run)
        from tune_spaces.ray_tune.early_stopping import scheduler
        from tune_spaces.ray_tune.ended_trials import ForgetsEnded
        from tune_spaces.ray_tune.search_space import search_space
        from tune_spaces.ray_tune.searcher import VariantSearcher
        from tune_spaces.ray_tune.stopper import GateStopper

        keep_keys()
        places, keeper = Places(run, campaign), LimitKeeper(limits or Limits(), campaign, run)
        specs = [*ends, *(trial.spec for trial in trials.values())]

        def propose() -> PlannedTrial | None:
            proposal = None if proposals is None or add is None else proposals.next(policy.outcomes)
            if proposal is None or proposals is None or add is None:
                return None
            trial = add(*proposal)
            proposals.opened(proposal[0], trial.name)
            return trial

        searcher = VariantSearcher(
            *(policy, trials, campaign, run),
            parallel=parallel,
            slots=lambda: places.standing().slots,
            fits=keeper.fits,
            left_to=places.left_to,
            stops_early=stop_early is not None,
            propose=propose,
            fields=space(spec.flat() for spec in specs),
        )

        stopping = scheduler(stop_early, specs, campaign)
        for name, result in (stopping.stopped if stopping else {}).items():
            if Outcome.of_trial(campaign.trial(name)) is None:  # the driver died before it could write that down
                searcher.observe_stopped(name, result)
        if policy.finished:
            return

        judged = len(policy.outcomes)

        def record() -> None:
            nonlocal judged
            _record_schedule(campaign, searcher, places, keeper)
            if judged != (now := len(policy.outcomes)):  # for a card that is written meanwhile
                judged = now
                campaign.write_gate(policy.record())

        stopper = GateStopper(policy, searcher.live)
        trainable = tune.with_parameters(tune_trial, job=job, attempt=uuid.uuid4().hex)
        tuner = tune.Tuner(
            tune.with_resources(trainable, _on_this_node()),
            param_space=search_space(specs, proposals.search.axes if proposals else ()),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=len(trials) + policy.proposals,
                scheduler=stopping,
                # A job that was ended early would go on in an actor that is used again.
                reuse_actors=stop_early is None,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=_next_experiment(campaign),
                storage_path=str(campaign.experiments),
                stop=stopper,
                failure_config=tune.FailureConfig(max_failures=ACTOR_RETRIES),
                # Tune's third, TensorBoard's, imports torch
                callbacks=[CSVLoggerCallback(), JsonLoggerCallback(), ForgetsEnded()],
                verbose=0,
            ),
        )
        stalls = StallWatch(searcher.running, campaign.trial, run.progress_timeout)
        early = EndEarly(campaign, searcher, stopper, keeper, interrupts)
        try:
            with (
                interrupts.awaited(),
                repeating(END_POLL, early.look, "end"),
                repeating(SCHEDULE_POLL, record, "schedule"),
                repeating(stalls.every_s, stalls.look, "stalls"),
                ray_messages_in(campaign.path / trial_files.RAY_LOG),
            ):
                tuner.fit()
            record()
        finally:
            with suppress(Exception):  # the Ray may be gone
                places.withdraw()
            for name in searcher.live.values():
                searcher.claims.release(searcher.trials[name])
                _observe_interrupted(campaign, policy, name)


class EndEarly:
    """Ends a start at its limits, on a request to stop, or on a signal.

    Nothing further starts, and running jobs write a checkpoint and end; those that do not are stopped after a while.
    """

    def __init__(
        self,
        campaign: CampaignFolder,
        searcher: "VariantSearcher",
        stopper: "GateStopper",
        keeper: LimitKeeper,
        interrupts: Interrupts,
    ) -> None:
        self.campaign, self.searcher, self.stopper = campaign, searcher, stopper
        self.keeper, self.interrupts = keeper, interrupts
        self._wait_until: float | None = None

    def look(self) -> bool:
        """See whether the start must end, and return whether nothing is left to be done about it."""
        running = self.searcher.running()
        first = self._wait_until is None
        if self.interrupts.requested or self.campaign.stop_requested():
            soon = time.monotonic() + CHECKPOINT_S
            self._wait_until = soon if self._wait_until is None else min(self._wait_until, soon)
        elif self._wait_until is None and self.interrupts.noticed:
            self._wait_until = time.monotonic() + NOTICED_S
        elif self._wait_until is None and self.keeper.reached(running):
            self._wait_until = time.monotonic() + CHECKPOINT_WITHIN
        if self._wait_until is None:
            return False
        if first:
            self.campaign.record_stop(self._reason())
        self.searcher.drain()  # at each look: a trial may have been handed out at the moment of the first
        if not running and not self.interrupts.requested:
            return True
        late = time.monotonic() > self._wait_until or self.interrupts.hurry or not running
        if late and self.interrupts.requested and self.interrupts.ends_process:
            self.interrupts.leave()  # Tune would wait for its actors, which end with this process's connection to Ray
        elif late:
            self.stopper.cut_short()
        return late

    def _reason(self) -> str:
        if self.interrupts.noticed and not self.interrupts.requested:
            return "SIGUSR2: a time limit is near"
        return self.interrupts.requested or self.keeper.reason or "stop was asked for"


def _record_schedule(
    campaign: CampaignFolder, searcher: "VariantSearcher", places: Places, keeper: LimitKeeper
) -> None:
    """Write what runs and what waits, for whoever follows the campaign; an unchanged record is not written again."""
    standing = places.standing()
    running = searcher.running()
    young = [name for name, since in running.items() if time.time() - since < YOUNG_S]
    places.announce(len(running), len(young), searcher.changed, searcher.waits)
    searcher.claims.renew(searcher.trials[name] for name in running)
    record = {
        "parallel": searcher.parallel,
        "slots": standing.slots,
        "running": running,
        "without_place": standing.without_room(len(running)),
        "ready": len([name for name in searcher.policy.ready() if name not in running]),
        "limit": keeper.reason,
        "elsewhere": dict(searcher.elsewhere),
        "left_to": searcher.left_to,
    }
    earlier = campaign.schedule() or {}
    if any(earlier.get(name) != value for name, value in record.items()):
        campaign.write_schedule({"time": time.time(), **record})


def _observe_interrupted(campaign: CampaignFolder, policy: Policy, name: str) -> None:
    """Record the end of a trial that ran when the experiment was stopped; it may have finished all the same."""
    trial = campaign.trial(name)
    outcome = Outcome.of_trial(trial)
    if outcome is None:
        trial.append_status(trial_files.KILLED)
    else:
        policy.observe(name, outcome)


def _trial_name(trial: Any) -> str:
    return f"{trial.config['name']}-{trial.trial_id}"


def _next_experiment(campaign: CampaignFolder) -> str:
    """Return a new name: two starts in one experiment's folder would overwrite each other's state."""
    return f"{len(list(campaign.experiments.glob('*'))):03d}"


def _on_this_node() -> Any:
    """Place the trial's actor on this node, without CPUs: on a small machine the job needs all of them."""
    import ray
    from ray.tune import PlacementGroupFactory

    own = ray.get_runtime_context().get_node_id()
    address = next(node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == own)
    # The label names the node; the resource is there because a bundle may not be empty.
    return PlacementGroupFactory([{f"node:{address}": 0.001}], bundle_label_selector=[{"ray.io/node-id": own}])
