"""One start of a campaign on Ray: a Tune experiment around the policy, and the signals that end it."""

import os
import signal
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge_common import trial_files
from bridge_common.threads import repeating
from bridge_common.trial_folder import TrialFolder
from ray_bridge import RunSpec
from tune_spaces.design.plan import PlannedTrial
from tune_spaces.design.toggles import search_space
from tune_spaces.gate.policy import Policy
from tune_spaces.ray_tune import connect
from tune_spaces.ray_tune.nodes import check_free
from tune_spaces.ray_tune.trainable import Job, tune_trial
from tune_spaces.records import campaign_folder

if TYPE_CHECKING:
    from ray.tune import ResultGrid

STOP_POLL = 0.5
ACTOR_RETRIES = 2  # new starts of a trial whose actor died; the job goes on from its checkpoint


def fit(
    campaign: Path, trials: Mapping[str, PlannedTrial], run: RunSpec, policy: Policy, job: Job | str, *, wait: bool
) -> "ResultGrid":
    """Run what the policy asks for, feeding it, until nothing is left, a stop is asked for, or the first trial failed.

    Args:
        campaign: its folder.
        trials: every trial that some outcome asks for, by name.
        run: where and how each runs.
        policy: decides what runs next.
        job: what a trial carries out.
        wait: whether GPUs that are taken are waited for; else the phase is refused while they are.

    Raises:
        UserError: where no node can hold a job.
    """
    with connect.connected(run), _stoppable(campaign):
        from ray import tune
        from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback

        if not wait:
            check_free(run)
        from tune_spaces.ray_tune.searcher import VariantSearcher
        from tune_spaces.ray_tune.stopper import GateStopper

        searcher = VariantSearcher(policy, trials, campaign, run)
        trainable = tune.with_parameters(tune_trial, job=job, attempt=uuid.uuid4().hex)
        tuner = tune.Tuner(
            tune.with_resources(trainable, _place()),
            param_space=search_space(),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=len(trials),
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name=_next_start(campaign),
                storage_path=str(campaign / campaign_folder.TUNE),
                stop=GateStopper(policy),
                failure_config=tune.FailureConfig(max_failures=ACTOR_RETRIES),
                callbacks=[CSVLoggerCallback(), JsonLoggerCallback()],  # Tune's third, TensorBoard's, imports torch
                verbose=0,
            ),
        )
        grid = tuner.fit()
        for name in searcher.live.values():
            _note_end(campaign, policy, name)
        return grid


def _note_end(campaign: Path, policy: Policy, name: str) -> None:
    """A trial that was running when the experiment was ended: it may have come to its end all the same."""
    folder = TrialFolder.of(campaign, name)
    found = campaign_folder.outcome(folder)
    if found is None:
        folder.append_status(trial_files.KILLED)
    else:
        policy.observe(name, found)


def _trial_name(trial: Any) -> str:
    return f"{trial.config['name']}-{trial.trial_id}"


def _next_start(folder: Path) -> str:
    """Each start is an experiment of its own: two in one folder would overwrite each other's state."""
    return f"{len(list((folder / campaign_folder.TUNE).glob('*'))):03d}"


def _place() -> Any:
    """A place on this node for the trial's actor, without CPUs: on a small machine the job needs all of them."""
    import ray
    from ray.tune import PlacementGroupFactory

    own = ray.get_runtime_context().get_node_id()
    address = next(node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == own)
    # The label says which node; the resource is there because a bundle may not be empty.
    return PlacementGroupFactory([{f"node:{address}": 0.001}], bundle_label_selector=[{"ray.io/node-id": own}])


@contextmanager
def _stoppable(folder: Path) -> Iterator[None]:
    """Turn SIGTERM and the stop file into the interrupt that Tune ends on, with its state saved and its actors gone."""

    def interrupt(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def poll() -> bool:
        asked = (folder / campaign_folder.STOP).exists()
        if asked:
            interrupt()
        return asked

    main = threading.current_thread() is threading.main_thread()
    before: Any = signal.signal(signal.SIGTERM, interrupt) if main else None
    try:
        with repeating(STOP_POLL, poll, "stop-request"):
            yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
