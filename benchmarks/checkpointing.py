"""Time how long a checkpoint stops training: written while the loop waits, or copied and then written by a thread.

    python -m benchmarks.checkpointing [--parameters 50000000] [--repeats 5]

The state is that of AdamW (weights, two moments, best weights) with random numbers: 16 bytes a parameter, on the GPU if
there is one. The paper's bridge has 150 million parameters. `before` is the first way, `now` the second, `written` the
time until the file is complete; `meanwhile` is the time of some host work with matrix products on the device while the
thread writes, `alone` its time otherwise.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.harness import default_device, save, wait
from ray_bridge.evaluation.selection import Best
from ray_bridge.training.async_checkpoint import Snapshot, Writer, write_folder
from ray_bridge.training.checkpoint import TrainingState


def random_state(parameters: int, device: torch.device, step: int, best: int) -> TrainingState:
    """Return a training state of random numbers, in tensors of 2 million."""
    sizes = [2_000_000] * (parameters // 2_000_000)

    def numbers() -> dict[str, torch.Tensor]:
        return {str(i): torch.rand(size, device=device) for i, size in enumerate(sizes)}

    moments = {i: {"exp_avg": a, "exp_avg_sq": b} for i, (a, b) in enumerate(zip(*_two(numbers), strict=True))}
    return TrainingState(
        step=step,
        weights=numbers(),
        optimiser={"state": moments, "param_groups": []},
        average={},
        best=Best(step=best, accuracy=0.5, weights=numbers()),
        seconds=0.0,
    )


def _two(numbers: Callable[[], dict[str, torch.Tensor]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return list(numbers().values()), list(numbers().values())


def save_and_copy(progress: TrainingState, folder: Path) -> None:
    """Write a state into a temporary folder and copy that, while the loop waits."""
    with tempfile.TemporaryDirectory() as name:
        progress.save(Path(name))
        shutil.copytree(name, folder)


def training_work(device: torch.device) -> Callable[[], None]:
    """Return a function that works as a part of a training step does: kernel launches, products and host work."""
    a = torch.rand(256, 256, device=device)

    def work() -> None:
        for _ in range(100):
            a @ a
        sum(range(100_000))
        wait(device)

    return work


def wall_seconds(action: Callable[[], Any]) -> float:
    """Return the wall time of an action, which includes waiting for the disk."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def main() -> None:
    """Measure and save the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--parameters", type=int, default=None, help="by default 150 million on a GPU, 37 million on a CPU"
    )
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    device = default_device()
    parameters = arguments.parameters or (150_000_000 if device.type == "cuda" else 37_000_000)
    work, snapshot, writer = training_work(device), Snapshot(), Writer()
    seconds_of: dict[str, list[float]] = {name: [] for name in ("before", "now", "written", "alone", "meanwhile")}
    with tempfile.TemporaryDirectory() as name:
        for number in range(arguments.repeats):
            progress = random_state(parameters, device, step=number, best=min(number, 1))
            seconds_of["alone"] += [wall_seconds(work) for _ in range(20)][5:]
            wait(device)
            seconds_of["before"].append(wall_seconds(partial(save_and_copy, progress, Path(name) / f"before-{number}")))
            begin = time.perf_counter()
            fill = snapshot.take(progress).save
            writing = writer.start(partial(write_folder, Path(name) / f"now-{number}", fill))
            seconds_of["now"].append(time.perf_counter() - begin)
            while not writing.done():
                seconds_of["meanwhile"].append(wall_seconds(work))
            writer.wait()
            seconds_of["written"].append(time.perf_counter() - begin)
            for path in Path(name).iterdir():
                shutil.rmtree(path)
    result = {
        "parameters": parameters,
        "first_s": {key: round(seconds_of[key][0], 3) for key in ("before", "now", "written")},
        "then_s": {key: round(median(seconds_of[key][1:]), 3) for key in ("before", "now", "written")},
        "work_ms": {key: round(1e3 * median(seconds_of[key]), 2) for key in ("alone", "meanwhile")},
    }
    print(result)
    save(f"checkpoint-{device.type}", result)


if __name__ == "__main__":
    main()
