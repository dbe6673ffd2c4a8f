"""What every benchmark shares: where it ran, how it timed, what the machine can do, and how results are kept."""

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
    """The first GPU, or a CPU with one thread, whose times mean something beside other work."""
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    torch.set_num_threads(1)
    return torch.device("cpu")


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clock(device: torch.device) -> float:
    """Seconds: of the wall on a GPU once it is waited for, of this process on a CPU, which others may share."""
    wait(device)
    return time.perf_counter() if device.type == "cuda" else time.process_time()


def timed(action: Callable[[], Any], device: torch.device, *, repeats: int = 5, warm_up: int = 2) -> float:
    """Median seconds of an action after warm-up, each waited for."""
    for _ in range(warm_up):
        action()
    spent = []
    for _ in range(repeats):
        begin = clock(device)
        action()
        spent.append(clock(device) - begin)
    return median(spent)


def environment(device: torch.device) -> dict[str, Any]:
    """Machine and versions."""
    import transformers

    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "node": platform.node(),
        "cpus": os.cpu_count(),
        "device": str(device.type),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"gpu": properties.name, "gpu_memory_gib": round(properties.total_memory / 2**30, 1)}
        found |= {"gpus": torch.cuda.device_count(), "cuda": torch.version.cuda}
    return found


def ceilings(device: torch.device) -> dict[str, float]:
    """Bytes a second of a copy (read and written both counted) and operations a second of a product, on random data."""
    large = device.type == "cuda"
    return {
        "copy_bytes_per_s": _copy_rate(1 << (31 if large else 25), device),
        "matmul_flop_per_s": _matmul_rate(*((8192, torch.bfloat16) if large else (512, torch.float32)), device),
    }


def _copy_rate(size: int, device: torch.device) -> float:
    read = torch.empty(size, dtype=torch.uint8, device=device).random_()
    written = torch.empty_like(read)
    return 2 * size / timed(lambda: written.copy_(read), device, repeats=9)


def _matmul_rate(n: int, kind: torch.dtype, device: torch.device) -> float:
    a, b = torch.randn(n, n, device=device, dtype=kind), torch.randn(n, n, device=device, dtype=kind)
    return 2 * n**3 / timed(lambda: a @ b, device, repeats=9)


def peak_gib(device: torch.device) -> float | None:
    """Peak of allocated memory since the last reset, GiB; None on a CPU."""
    return round(torch.cuda.max_memory_allocated(device) / 2**30, 2) if device.type == "cuda" else None


def python_path() -> str:
    """Return PYTHONPATH for the processes of a benchmark: this repository, then the caller's entries."""
    root = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])


def results_folder() -> Path:
    """Where results go: $OUT where it is set, else benchmarks/results."""
    return Path(os.environ.get("OUT") or RESULTS)


def save(name: str, result: dict[str, Any], folder: Path | None = None) -> Path:
    """Write a result and print it."""
    path = (folder or results_folder()) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, default=str)
    path.with_suffix(".part").write_text(text + "\n")
    path.with_suffix(".part").replace(path)
    return path
