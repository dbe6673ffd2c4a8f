"""The same job under Ray Train and under bare processes: seconds a step of both, and their ratio.

    python -m benchmarks.ray_overhead [--steps 40] [--workers 2]

On a CPU with the embedded pair; on GPUs with `--gpu`. Both ways run `training.Trainer` to its end; the seconds that
each step records are compared, as medians without the first quarter.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import default_device, environment, python_path, save
from bridge_common.files import read_jsonl
from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.config.spec import JobSpec, RunSpec
from ray_bridge.config.validation import build

BARE = """
import sys, torch
from datetime import timedelta
from pathlib import Path
from ray_bridge.config.presets import tiny_run
from ray_bridge.training.session import LocalSession
from ray_bridge.config.spec import JobSpec, RunSpec
from ray_bridge.training.trainer import Trainer
from ray_bridge.distributed import Worker
rank, store, folder, spec, run = int(sys.argv[1]), *sys.argv[2:]
run = RunSpec.model_validate_json(run)
device = torch.device("cuda", rank) if run.use_gpu else torch.device("cpu")
if run.use_gpu:
    torch.cuda.set_device(device)
torch.set_num_threads(1)
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
    """Seconds of the job in processes of our own."""
    begin = time.perf_counter()
    arguments = [str(folder / "store"), str(folder), spec.model_dump_json(), run.model_dump_json()]
    surroundings = os.environ | {"PYTHONPATH": python_path(), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", BARE, str(rank), *arguments], env=surroundings)
        for rank in range(run.workers)
    ]
    if any(process.wait() for process in processes):
        raise RuntimeError("a bare worker failed")
    return time.perf_counter() - begin


def under_ray(spec: JobSpec, run: RunSpec, folder: Path) -> float:
    """Seconds of the job under Ray Train, the start of Ray not counted."""
    import ray

    from ray_bridge.job import run_job

    os.environ["RAY_AUTH_MODE"] = "disabled"  # else a token file stays behind, which later clusters would ask for
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
    """Seconds of each recorded training step."""
    rows = [e["values"] for e in read_jsonl(folder / "events.jsonl") if e["kind"] == "metrics"]
    return [values["seconds_per_step"] for values in rows if "seconds_per_step" in values]


def main() -> None:
    """Measure both and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpu", action="store_true")
    asked = parser.parse_args()
    changes: dict[str, Any] = {"steps": asked.steps, "eval_every": asked.steps, "validation_examples": 8}
    changes |= {"test_examples": 8, "decode_aware": False, "train_examples": 2000, "max_new_tokens": 16}
    spec = tiny(**changes)
    run = build(RunSpec, tiny_run().model_dump() | {"workers": asked.workers, "use_gpu": asked.gpu})
    found: dict[str, Any] = {"environment": environment(default_device()), "steps": asked.steps}
    with tempfile.TemporaryDirectory() as name:
        for way, action in (("bare", bare), ("ray", under_ray)):
            folder = Path(name) / way / "trial"
            folder.mkdir(parents=True)
            seconds = action(spec, run, folder)
            steps = steps_of(folder)[asked.steps // 4 :]
            found[way] = {"job_s": round(seconds, 1), "step_ms": round(1e3 * median(steps), 2)}
            print(way, found[way], flush=True)
    found["ray_over_bare"] = round(found["ray"]["step_ms"] / found["bare"]["step_ms"], 4)
    print(json.dumps({"ray_over_bare": found["ray_over_bare"]}))
    save("ray-overhead", found)


if __name__ == "__main__":
    main()
