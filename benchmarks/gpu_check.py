"""Compare every fast path with the eager one at full geometry, and time each: one call, a few minutes, four GPUs.

    python -m benchmarks.gpu_check --size paper --processes 4    Mistral-7B and Llama-3.1-8B geometry, random weights
    python -m benchmarks.gpu_check --size tiny --processes 2     the same parts in miniature on a CPU

One process per GPU. Each first measures parts of its own; then all train and evaluate together. If a part fails or
exceeds its time limit, that is recorded and the next part begins. Results are written after every part, to $OUT (or
benchmarks/results), as gpu-check-RANK.json.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

BEGAN = float(os.environ.get("GPU_CHECK_BEGAN") or time.time())


class Part:
    """Runs named parts one after another and keeps their results."""

    def __init__(self, rank: int, size: str, folder: Path, deadline: float) -> None:
        self.rank, self.folder, self.deadline = rank, folder, deadline
        self.results: dict[str, Any] = {"rank": rank, "size": size, "command": asked()}

    def __call__(self, name: str, limit: float, work: Callable[[], Any]) -> Any:
        """Run a part for at most `limit` seconds, and not beyond the deadline; return its result, None if it failed."""
        from benchmarks.harness import save

        seconds = min(limit, self.deadline - (time.time() - BEGAN))
        begin = time.time()
        entry: dict[str, Any] = {"began": round(begin - BEGAN, 1)}
        value = None
        if seconds < 3:
            entry["skipped"] = "no time is left"
        else:
            signal.signal(signal.SIGALRM, _time_out)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                value = work()
                entry["result"] = value
            except Exception as error:
                entry["failed"] = f"{type(error).__name__}: {error}"[:500]
                entry["trace"] = traceback.format_exc()[-1500:]
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        _free_memory()
        entry["seconds"] = round(time.time() - begin, 1)
        self.results[name] = entry
        save(f"gpu-check-{self.rank}", self.results, self.folder)
        shown = entry.get("result", entry.get("failed", entry.get("skipped")))
        print(
            f"[{time.time() - BEGAN:6.1f}s rank {self.rank}] {name} ({entry['seconds']}s): {str(shown)[:700]}",
            flush=True,
        )
        return value


def asked() -> str:
    """Return the command that started this process's parent, without what the parent adds for each process."""
    from benchmarks.harness import command

    return command().partition(" --store ")[0]


def _time_out(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError("took longer than its limit")


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def work(
    rank: int, world: int, size: str, folder: Path, store: Path, solo: float, deadline: float, only: list[str]
) -> None:
    """Run one process: its own parts, then the joint ones; only those named in `only`, if it is not empty."""
    import torch

    from benchmarks.gpu_parts import Bench

    device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    part = Part(rank, size, folder, solo)
    bench = Bench(size, device)
    if part("load", 90, bench.load) is None:
        print(f"rank {rank}: no models, nothing to measure", flush=True)
        return
    part("ceilings", 20, bench.ceilings)
    for name, limit, piece in bench.own_parts(rank, world):
        if not only or name in only:
            part(name, limit, piece)
    part.deadline = deadline
    import torch.distributed as dist

    def join() -> str:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=100),
        )
        dist.barrier()
        return "joined"

    if part("join", 110, join) is None:
        return
    for name, limit, piece in bench.joint_parts(rank, world):
        if not only or name in only:
            part(name, limit, piece)
    # If a rank failed in a collective, others are still waiting in it: do not wait for them here.
    sys.stdout.flush()
    os._exit(0)


def main() -> int:
    """Start the processes, wait for them until the deadline, and kill those that remain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "paper"), default="tiny")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=300, help="time limit of the whole call")
    parser.add_argument("--solo", type=float, default=165, help="seconds by which each process ends its own parts")
    parser.add_argument("--only", nargs="*", default=[], help="names of the parts to run, all by default")
    parser.add_argument("--rank", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = Path(os.environ.get("OUT") or Path(__file__).parent / "results")
    if options.rank >= 0:
        arguments = (options.size, folder, options.store, options.solo, options.seconds - 10, options.only)
        work(options.rank, options.processes, *arguments)
        return 0
    with tempfile.TemporaryDirectory() as name:
        command = [
            sys.executable,
            "-m",
            "benchmarks.gpu_check",
            *sys.argv[1:],
            "--store",
            str(Path(name) / "store"),
            "--rank",
        ]
        environment = os.environ | {
            "GPU_CHECK_BEGAN": str(BEGAN),
            "OMP_NUM_THREADS": "4" if options.size == "paper" else "1",
            "TOKENIZERS_PARALLELISM": "false",
            "BENCH_CACHE": name,
        }
        processes = [subprocess.Popen([*command, str(rank)], env=environment) for rank in range(options.processes)]
        try:
            for process in processes:
                process.wait(timeout=max(1, options.seconds - (time.time() - BEGAN)))
        except subprocess.TimeoutExpired:
            print("the time is up", flush=True)
        finally:
            for process in processes:
                process.kill()
                process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
