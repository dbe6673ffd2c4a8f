"""Job functions without models that are called like `ray_bridge.job.run_job` and read what to do from a file.

`STORAGE/cheap.json` holds {"accuracy": {variant: number}, "n": items, "steps": number of steps, "pause": seconds a
step, "fail": [variants that raise], "samples": whether to write samples, "deaf": whether they ignore a request to
stop, "hold": whether they wait after their first step until `STORAGE/go` is there}. Accuracies are by variant or
"variant/seed". What the jobs do is appended to `STORAGE/journal.jsonl`.

Their metric `checksum` depends on every step in its order: a step that is lost, repeated or done on another
state after a restart changes it.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bridge_common import files, heartbeat
from bridge_common.errors import StoppedError
from bridge_common.trial_folder import TrialFolder
from tests.support.waiting import wait_for


def settings(folder: Path) -> dict[str, Any]:
    """Return what the storage of a trial asks of its jobs."""
    return files.read_json(folder.parents[2] / "cheap.json")


def journal(folder: Path, **what: Any) -> None:
    """Append an event to the journal."""
    files.append_jsonl(folder.parents[2] / "journal.jsonl", {**what, "time": time.time(), "pid": os.getpid()})


def checksum(steps: int, state: float = 1.0, first: int = 0) -> float:
    """Return the state after the last of so many steps, given that before the step `first`."""
    for step in range(first, steps):
        state = state * 1.1 % 1 + 1 / (step + 3)
    return state


def finish(folder: Path, node_id: str | None, started: float, gpu: str | None = None, **more: float) -> dict[str, Any]:
    """Write metrics, samples if asked for, and the result of a trial."""
    asked, given = settings(folder), files.read_json(folder / "spec.json")
    n = given["spec"]["test_examples"] or asked.get("n", 1000)
    wanted = asked["accuracy"]
    accuracy = wanted.get(f"{given['variant']}/{given['seed']}", wanted.get(given["variant"]))
    correct = round(accuracy * n)
    metrics = {"accuracy/bridged": correct / n, "correct/bridged": correct, "n": n, **more}
    result = {
        "variant": given["variant"],
        "fingerprint": given["fingerprint"],
        "metrics": metrics,
        "node_id": node_id,
        "gpu": gpu,
        "seconds": time.time() - started,
        "checkpoint": None,
    }
    if asked.get("samples"):
        # Which items are correct depends on the seed alone, so that variants share items, as runs of one model do.
        order = np.random.default_rng(given["seed"]).permutation(n)
        rows = [
            {"id": f"q{i}", "index": i, "question": f"q{i}?", "gold": "1", "bridged_answer": "1" if right else "0"}
            | {"bridged_correct": bool(right), "bridged_valid": True}
            | {"target_alone_correct": i % 3 != 0, "target_alone_answer": "1", "target_alone_valid": True}
            for i, right in enumerate(order < correct)
        ]
        files.write_jsonl(folder / "samples.jsonl", rows)
    files.write_json(folder / "metrics.json", metrics)
    files.write_json(folder / "result.json", result)
    return result


def _steps(folder: Path, **where: Any) -> float:
    """Do the steps of a trial and return its checksum; a file holds both, from which a later attempt goes on."""
    asked, given = settings(folder), files.read_json(folder / "spec.json")
    state = folder / "steps.json"
    done, value = files.read_json(state) if state.is_file() else (0, 1.0)
    about = {"variant": given["variant"], "seed": given["seed"], **where}
    journal(folder, event="start", step=done, **about)
    if given["variant"] in asked.get("fail", []):
        raise RuntimeError(f"{given['variant']} cannot be run")
    for step in range(done, asked.get("steps", 1)):
        time.sleep(asked.get("pause", 0))
        journal(folder, event="step", step=step, **about)
        while asked.get("hold") and not (folder.parents[2] / "go").exists():
            time.sleep(0.1)
        files.append_jsonl(
            folder / "events.jsonl",
            {"kind": "metrics", "time": time.time(), "step": step, "values": {"loss/total": 1 / (1 + step)}},
        )
        value = checksum(step + 1, value, step)
        files.write_json(state, [step + 1, value])
        if TrialFolder(folder).stop_requested() and not asked.get("deaf"):
            raise StoppedError(str(folder))
        validation = asked.get("validation", {}).get(given["variant"])
        if validation is not None:
            from ray import tune

            tune.report({"step": step + 1, "validation_accuracy": validation})
    journal(folder, event="end", **about)
    return value


def direct(spec, run, folder, *, node_id=None, callbacks=(), cache=None):
    """Run in the trial's own process, without resources."""
    started = time.time()
    value = _steps(folder)
    import ray

    return finish(folder, ray.get_runtime_context().get_node_id(), started, checksum=value)


def waits_for_gate(spec, run, folder, *, node_id=None, callbacks=(), cache=None):
    """Run like `direct`; what follows the gate begins once `gate.json` says what was decided."""
    if files.read_json(folder / "spec.json")["variant"] != "full":
        wait_for(lambda: files.read_json(folder.parents[1] / "gate.json")["status"] == "decided", 60)
    return direct(spec, run, folder, node_id=node_id, callbacks=callbacks, cache=cache)


def validated(spec, run, folder, *, node_id=None, callbacks=(), cache=None):
    """Run like `direct`, and report the validation accuracy of `STORAGE/cheap.json` at each step."""
    result = direct(spec, run, folder, node_id=node_id, callbacks=callbacks, cache=cache)
    best = settings(folder)["validation"][files.read_json(folder / "spec.json")["variant"]]
    result["metrics"]["validation/best_accuracy"] = best
    files.write_json(folder / "result.json", result)
    return result


def _placed_task(folder: Path, started: float) -> dict[str, Any]:
    import ray

    node = ray.get_runtime_context().get_node_id()
    value = _steps(folder, node=node)
    resources = next(each["Resources"] for each in ray.nodes() if each["NodeID"] == node)
    kinds = [name.removeprefix("accelerator_type:") for name in resources if name.startswith("accelerator_type:")]
    return finish(folder, node, started, gpu=kinds[0] if kinds else None, checksum=value)


def placed(spec, run, folder, *, node_id=None, callbacks=(), cache=None):
    """Run one task on a node that holds the resources of a whole job, as Ray Train reserves them."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    if (folder / "result.json").is_file():
        return files.read_json(folder / "result.json")
    bundle = {"CPU": run.cpus_per_worker} | ({"GPU": 1} if run.use_gpu else {})
    selector = [{"ray.io/node-id": node_id}] * run.workers if node_id else None
    group = placement_group([bundle] * run.workers, strategy="STRICT_PACK", bundle_label_selector=selector)
    try:
        while not group.wait(3600):
            pass
        task = ray.remote(_placed_task).options(
            num_cpus=run.cpus_per_worker,
            num_gpus=1 if run.use_gpu else 0,
            max_retries=3,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0),
        )
        return ray.get(task.remote(folder, time.time()))
    finally:
        remove_placement_group(group)


def _loop(config: dict[str, Any]) -> None:
    import ray
    import ray.train

    folder, rank = Path(config["folder"]), ray.train.get_context().get_world_rank()
    alive = heartbeat.Heartbeat(
        folder,
        heartbeat.worker_name(rank),
        rank=rank,
        node_id=ray.get_runtime_context().get_node_id(),
        every_s=heartbeat.interval(config["progress_timeout"]),
    )
    with alive.beating():
        _train(config, folder, rank == 0, alive)


def _train(config: dict[str, Any], folder: Path, first: bool, alive: heartbeat.Heartbeat) -> None:
    import ray
    import ray.train
    from ray.train.collective import barrier

    asked = settings(folder)
    variant = files.read_json(folder / "spec.json")["variant"]
    node = ray.get_runtime_context().get_node_id()
    step, value, checkpoint = 0, 1.0, ray.train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as place:
            step, value = json.loads((Path(place) / "step.json").read_text())
    if first:
        journal(folder, event="loop", variant=variant, step=step, node=node)
    if variant in asked.get("fail", []):
        raise RuntimeError(f"{variant} cannot be run")
    for number in range(step, asked.get("steps", 1)):
        time.sleep(asked.get("pause", 0))
        value = checksum(number + 1, value, number)
        alive.sign("training")
        with tempfile.TemporaryDirectory() as place:
            saved = None
            if first:
                (Path(place) / "step.json").write_text(json.dumps([number + 1, value]))
                saved = ray.train.Checkpoint.from_directory(place)
            ray.train.report({"step": number}, checkpoint=saved)
        if first:
            journal(folder, event="step", variant=variant, step=number, node=node)
    if first:
        finish(folder, node, config["started"], checksum=value)
        journal(folder, event="end", variant=variant, node=node)
    barrier()


def trained(spec, run, folder, *, node_id=None, callbacks=(), cache=None):
    """Run a real Ray Train job, with fake GPUs if the run asks for GPUs; its processes need not import torch."""
    import ray.train
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    from ray_bridge.training.without_datasets import without_datasets

    if (folder / "result.json").is_file():
        return files.read_json(folder / "result.json")
    resources = {"CPU": run.cpus_per_worker} | ({"GPU": 1} if run.use_gpu else {})
    without_datasets(DataParallelTrainer)(
        _loop,
        train_loop_config={
            "folder": str(folder),
            "started": time.time(),
            "progress_timeout": run.progress_timeout,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=run.workers,
            use_gpu=run.use_gpu,
            resources_per_worker=resources,
            placement_strategy="STRICT_PACK",
            label_selector={"ray.io/node-id": node_id} if node_id else None,
        ),
        run_config=ray.train.RunConfig(
            name="train",
            storage_path=str(folder),
            failure_config=ray.train.FailureConfig(max_failures=run.max_failures, controller_failure_limit=1),
            callbacks=list(callbacks),
        ),
    ).fit()
    return files.read_json(folder / "result.json")
