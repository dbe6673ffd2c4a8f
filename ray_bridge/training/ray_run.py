"""Start workers with Ray Train on one node, and wait until the function that they run has ended."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray_bridge.config.run_spec import RunSpec

KEPT = 2  # newest checkpoints of a job that are kept
HEALTH_CHECK_S = "0.5"  # between checks of the workers; a trial waits for one at its end, and Ray's default is 2


def run_on_workers(
    function: Callable[[dict[str, Any]], None],
    config: Mapping[str, Any],
    run: RunSpec,
    storage: Path,
    name: str,
    *,
    node_id: str | None = None,
    restarts: int = 0,
    preemptions: int = -1,
    callbacks: Sequence[Any] = (),
) -> None:
    """Run a function on a job's workers with Ray Train. Ray has to be initialised.

    Args:
        function: what each worker runs.
        config: its argument.
        run: number of workers, and what each of them takes.
        storage: folder that this process and the workers' node both see.
        name: of the Ray Train run, and of its folder in `storage`.
        node_id: Ray's id of the node on which all workers must run; None lets Ray choose one.
        restarts: how often all workers may be started again after one has failed (Ray Train's `max_failures`).
        preemptions: the same after their node was taken away (`max_preemption_failures`); -1 for any number.
        callbacks: Ray Train callbacks, such as the one that reports metrics to Tune.

    Raises:
        ray.train.TrainingFailedError: the workers failed once more, could not be placed, or their controller died.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    from ray_bridge.training.ray_snapshot import remove_damaged_snapshot
    from ray_bridge.training.without_datasets import without_datasets

    remove_damaged_snapshot(storage / name)
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", HEALTH_CHECK_S)
    trainer = without_datasets(TorchTrainer)(
        function,
        train_loop_config=dict(config),
        torch_config=TorchConfig(backend="nccl" if run.use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=run.workers,
            use_gpu=run.use_gpu,
            resources_per_worker={"CPU": run.cpus_per_worker} | ({"GPU": 1} if run.use_gpu else {}),
            placement_strategy="STRICT_PACK",
            label_selector={"ray.io/node-id": node_id} if node_id else None,
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=str(storage),
            failure_config=ray.train.FailureConfig(
                max_failures=restarts, max_preemption_failures=preemptions, controller_failure_limit=1
            ),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=KEPT),
            callbacks=list(callbacks),
        ),
    )
    trainer.fit()
