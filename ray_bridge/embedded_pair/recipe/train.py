"""Train the embedded pair: tokenizers, both models at once on one GPU, then their figures and model card.

    python -m ray_bridge.embedded_pair.recipe.train --out DIR --minutes 8                on a GPU
    python -m ray_bridge.embedded_pair.recipe.train --out DIR --minutes 2 --scale mini   to try it on a CPU

Each model is trained by a process of its own, whose data is made by further processes. The learning-rate schedule
follows the clock and reaches 0 when the time is over. Data and initial weights are seeded; the number of steps depends
on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from bridge_common.files import read_json, write_json
from ray_bridge.embedded_pair.recipe.architectures import SIZES


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, figures and model card")
    parser.add_argument("--minutes", type=float, default=8.0, help="wall-clock time for everything")
    parser.add_argument("--scale", choices=("full", "mini"), default="full")
    parser.add_argument("--models", default="source,target", help=f"which to train, of {', '.join(SIZES)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="")
    parser.add_argument("--rows", type=int, default=0, help="pretraining rows a stream; 0: 2,000,000 (mini: 4,000)")
    parser.add_argument("--test", type=int, default=0, help="test questions measured; 0: 2,000 (mini: 60)")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, default=0, help="data processes a model; 0: share the cores")
    args = parser.parse_args()
    args.rows = args.rows or (4000 if args.scale == "mini" else 2_000_000)
    args.test = args.test or (60 if args.scale == "mini" else 2000)
    return args


def _worker_command(args: argparse.Namespace, name: str, deadline: float, device: str, processes: int) -> list[str]:
    settings = {
        "out": args.out,
        "scale": args.scale,
        "seed": args.seed,
        "rows": args.rows,
        "test": args.test,
        "device": device,
        "deadline": deadline,
        "processes": processes,
        "worker": name,
    }
    return [
        sys.executable,
        "-u",
        "-m",
        "ray_bridge.embedded_pair.recipe.train",
        *(f"--{k}={v}" for k, v in settings.items()),
    ]


def _wait(workers: dict[str, subprocess.Popen[bytes]], deadline: float) -> dict[str, int | None]:
    """Wait for the workers, terminate those that are late, and return exit codes."""
    while time.time() < deadline and any(p.poll() is None for p in workers.values()):
        time.sleep(0.2)
    for process in workers.values():
        if process.poll() is None:
            process.terminate()
    for process in workers.values():
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
    return {name: p.poll() for name, p in workers.items()}


def main() -> None:
    """Run the recipe, or with --worker train one of its models."""
    args = _arguments()
    if args.worker:
        from ray_bridge.embedded_pair.recipe.train_one_model import train_one

        train_one(args)
        return
    start = time.time()
    import torch

    from ray_bridge.embedded_pair.recipe.model_card import write_card
    from ray_bridge.embedded_pair.recipe.tokenizers import write

    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    names = args.models.split(",")
    write(args.out / "tokenizers")
    print(f"[{time.time() - start:.1f}s] tokenizers written; training {names} on {device}", flush=True)
    deadline = start + args.minutes * 60
    processes = args.processes or max(1, (os.cpu_count() or 2) // len(names) - 1)
    environment = dict(os.environ, TOKENIZERS_PARALLELISM="false", OMP_WAIT_POLICY="passive", HF_HUB_OFFLINE="1")
    environment.setdefault("OMP_NUM_THREADS", "2")
    workers = {
        name: subprocess.Popen(_worker_command(args, name, deadline, device, processes), env=environment)
        for name in names
    }
    codes = _wait(workers, deadline + (120 if args.scale == "mini" else 0))
    figures = {n: read_json(args.out / f"{n}.json") for n in names if (args.out / f"{n}.json").exists()}
    write_json(args.out / "figures.json", figures)
    write_card(args.out, figures)
    print(json.dumps(figures), flush=True)
    if any(codes.values()):
        sys.exit(f"workers ended with {codes}")


if __name__ == "__main__":
    main()
