"""Shared by all benchmarks: the device, timing, facts about the machine, its measured limits, and saved results."""

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def default_device() -> torch.device:
    """Return the first GPU, or the CPU limited to one thread, so that times compare while other work runs."""
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    torch.set_num_threads(1)
    return torch.device("cpu")


def wait(device: torch.device) -> None:
    """Block until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clock(device: torch.device) -> float:
    """Wait for the device and return a time in seconds: wall time on a GPU, CPU time of this process on a CPU."""
    wait(device)
    return time.perf_counter() if device.type == "cuda" else time.process_time()


def timed(action: Callable[[], Any], device: torch.device, *, repeats: int = 5, warm_up: int = 2) -> float:
    """Return the median seconds of an action after `warm_up` calls, with the device waited for in each call."""
    for _ in range(warm_up):
        action()
    spent = []
    for _ in range(repeats):
        begin = clock(device)
        action()
        spent.append(clock(device) - begin)
    return median(spent)


def environment(device: torch.device) -> dict[str, Any]:
    """Return facts about the machine and the versions of Python, torch and transformers."""
    import transformers

    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "node": platform.node(),
        "cpus": os.cpu_count(),
        "device": str(device.type),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"gpu": properties.name, "gpu_memory_gib": round(properties.total_memory / 2**30, 1)}
        facts |= {"gpus": torch.cuda.device_count(), "cuda": torch.version.cuda}
    return facts


def ceilings(device: torch.device) -> dict[str, float]:
    """Measure the bandwidth of a copy (bytes read plus bytes written, a second) and the FLOP/s of a matrix product."""
    large = device.type == "cuda"
    return {
        "copy_bytes_per_s": _copy_rate(1 << (31 if large else 25), device),
        "matmul_flop_per_s": _matmul_rate(*((8192, torch.bfloat16) if large else (512, torch.float32)), device),
    }


def _copy_rate(size: int, device: torch.device) -> float:
    read = torch.empty(size, dtype=torch.uint8, device=device).random_()
    written = torch.empty_like(read)
    return 2 * size / timed(lambda: written.copy_(read), device, repeats=9)


def _matmul_rate(n: int, dtype: torch.dtype, device: torch.device) -> float:
    a, b = torch.randn(n, n, device=device, dtype=dtype), torch.randn(n, n, device=device, dtype=dtype)
    return 2 * n**3 / timed(lambda: a @ b, device, repeats=9)


def reset_peak(device: torch.device) -> None:
    """Count the peak of allocated memory from here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gib(device: torch.device) -> float | None:
    """Return the peak of allocated memory since the last reset, in GiB; None on a CPU."""
    return round(torch.cuda.max_memory_allocated(device) / 2**30, 2) if device.type == "cuda" else None


def python_path() -> str:
    """Return PYTHONPATH for the processes of a benchmark: this repository, then the caller's entries."""
    root = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])


def results_folder() -> Path:
    """Return the folder for results: $OUT if it is set, else benchmarks/results."""
    return Path(os.environ.get("OUT") or RESULTS)


def command() -> str:
    """Return this process's command as a user types it, with `torchrun` if that started it."""
    script, *arguments = sys.argv
    if Path(script).resolve().parent != Path(__file__).resolve().parent:
        return shlex.join(sys.argv)
    start = "python"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        start = f"torchrun --nproc-per-node {os.environ.get('LOCAL_WORLD_SIZE', '1')}"
    return shlex.join([*start.split(), "-m", f"benchmarks.{Path(script).stem}", *arguments])


def described(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result after the command, the machine and the versions that it came from, unless it names them itself.

    A benchmark names its environment if it was given its device; of the others the first GPU is meant if there is one.
    """
    facts = {} if "environment" in result else {"environment": environment(_device())}
    return facts | {"command": command()} | result


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def save(name: str, result: dict[str, Any], folder: Path | None = None) -> Path:
    """Write a result to NAME.json with its command, machine and versions, whole or not at all; return its path."""
    path = (folder or results_folder()) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(described(result), indent=1, default=str)
    path.with_suffix(".part").write_text(text + "\n")
    path.with_suffix(".part").replace(path)
    return path
