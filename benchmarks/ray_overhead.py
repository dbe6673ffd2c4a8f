"""Measure what Ray Train adds to a training step: the same job under Ray Train and in plain processes.

    python -m benchmarks.ray_overhead [--steps 40] [--workers 2] [--turns 3]

Uses the embedded pair, on a CPU or with `--gpu`. Both ways execute `Trainer` to its end with the same threads and the
same use of freed memory, and take turns, each of which begins with the other one. Of a run the median of its recorded
seconds per step counts, without the first quarter of the steps; the ratio is that of the medians over turns.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import python_path, save
from bridge_common.files import read_log
from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.config.run_spec import RunSpec
from ray_bridge.config.spec import JobSpec
from ray_bridge.config.validation import build

WORKER = """
import sys, torch
from datetime import timedelta
from pathlib import Path
from ray_bridge.config.presets import tiny_run
from ray_bridge.training.session import LocalSession
from ray_bridge.config.run_spec import RunSpec
from ray_bridge.config.spec import JobSpec
from ray_bridge.training.trainer import Trainer
from ray_bridge.training.host_memory import keep_freed_memory
from ray_bridge.distributed import Worker
rank, store, folder, spec, run = int(sys.argv[1]), *sys.argv[2:]
run = RunSpec.model_validate_json(run)
device = torch.device("cuda", rank) if run.use_gpu else torch.device("cpu")
if run.use_gpu:
    torch.cuda.set_device(device)
else:
    keep_freed_memory()  # as Ray's workers do
torch.set_num_threads(max(1, int(run.cpus_per_worker)))
torch.distributed.init_process_group(
    "nccl" if run.use_gpu else "gloo", init_method=f"file://{store}", rank=rank, world_size=run.workers,
)
worker = Worker(rank=rank, world=run.workers, device=device)
folder = Path(folder)
session = LocalSession(folder, worker)
Trainer(JobSpec.model_validate_json(spec), run, folder, session, folder / "cache").run()
torch.distributed.destroy_process_group()
"""


def bare(spec: JobSpec, run: RunSpec, folder: Path) -> float:
    """Run the job in plain processes and return its seconds."""
    begin = time.perf_counter()
    arguments = [str(folder / "store"), str(folder), spec.model_dump_json(), run.model_dump_json()]
    environment_variables = os.environ | {"PYTHONPATH": python_path(), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), *arguments], env=environment_variables)
        for rank in range(run.workers)
    ]
    if any(process.wait() for process in processes):
        raise RuntimeError("a worker process failed; its traceback is above")
    return time.perf_counter() - begin


def under_ray(spec: JobSpec, run: RunSpec, folder: Path) -> float:
    """Run the job under Ray Train and return its seconds, without those of starting Ray."""
    import ray

    from ray_bridge.job import run_job

    os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray leaves a token file, which later clusters would require
    ray.init(
        address="local",
        num_cpus=int(run.workers * run.cpus_per_worker) + 1,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": python_path(), "OMP_NUM_THREADS": "1"}},
    )
    begin = time.perf_counter()
    try:
        run_job(spec, run, folder, cache=folder / "cache")
        return time.perf_counter() - begin
    finally:
        ray.shutdown()


def steps_of(folder: Path) -> list[float]:
    """Return the seconds of each recorded training step."""
    metrics = [e["values"] for e in read_log(folder / "events.jsonl") if e["kind"] == "metrics"]
    return [values["seconds_per_step"] for values in metrics if "seconds_per_step" in values]


def take_turns(
    ways: Mapping[str, Callable[[Path], float]], turns: int, skipped: int, place: Path
) -> dict[str, dict[str, Any]]:
    """Run all ways in turns, each in a folder of its own; return the medians over turns of a job and of a step.

    Args:
        ways: by name, what runs a job in a folder and returns its seconds.
        turns: how often each way runs; in every second turn they run in the opposite order.
        skipped: first steps of each run that do not count.
        place: folder for the jobs.
    """
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    steps: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(turns):
        for way in list(ways)[:: -1 if turn % 2 else 1]:
            folder = place / f"{way}-{turn}" / "trial"
            folder.mkdir(parents=True)
            seconds[way].append(ways[way](folder))
            steps[way].append(1e3 * median(steps_of(folder)[skipped:]))
            print(f"turn {turn + 1} {way}: {steps[way][-1]:.1f} ms a step", flush=True)
    return {
        way: {
            "job_s": round(median(seconds[way]), 1),
            "step_ms": round(median(steps[way]), 2),
            "step_ms_of_turns": [round(each, 2) for each in steps[way]],
        }
        for way in ways
    }


def main() -> None:
    """Run both ways in turns, print and save the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--gpu", action="store_true")
    options = parser.parse_args()
    changes: dict[str, Any] = {"steps": options.steps, "eval_every": options.steps, "validation_examples": 8}
    changes |= {"test_examples": 8, "decode_aware": False, "train_examples": 2000, "max_new_tokens": 16}
    spec = tiny(**changes)
    run = build(RunSpec, tiny_run().model_dump() | {"workers": options.workers, "use_gpu": options.gpu})
    ways = {"bare": partial(bare, spec, run), "ray": partial(under_ray, spec, run)}
    with tempfile.TemporaryDirectory() as name:
        found = take_turns(ways, options.turns, options.steps // 4, Path(name))
    result: dict[str, Any] = {"steps": options.steps, "workers": options.workers, **found}
    result["ray_over_bare"] = round(result["ray"]["step_ms"] / result["bare"]["step_ms"], 4)
    print(json.dumps({"ray_over_bare": result["ray_over_bare"]}))
    save("ray-overhead", result)


if __name__ == "__main__":
    main()
