"""Shared by all benchmarks: the device, timing, facts about the machine, its measured limits, and saved results."""

import json
import os
import platform
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


def save(name: str, result: dict[str, Any], folder: Path | None = None) -> Path:
    """Write a result to NAME.json, whole or not at all, and return its path."""
    path = (folder or results_folder()) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, default=str)
    path.with_suffix(".part").write_text(text + "\n")
    path.with_suffix(".part").replace(path)
    return path
