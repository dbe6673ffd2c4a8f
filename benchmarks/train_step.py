"""Time a training step of the phase-1 job: few-shot header in every row, header cached, and without the fast paths.

python -m benchmarks.train_step --size tiny      a minute on a CPU; ratios
python -m benchmarks.train_step --size paper     per-device batch 2, K = 64, 8-shot prompts of 1,450 target tokens
python -m benchmarks.train_step ... --weights massive                     activations as large as real ones
"""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.harness import ceilings, clock, default_device, peak_gib, reset_peak, save
from benchmarks.random_models import (
    LENGTHS,
    Rig,
    add_weights_option,
    bench_spec,
    matmul_flops,
    result_name,
    weight_bytes,
)
from ray_bridge.bridges import geometry_projection
from ray_bridge.config.presets import paper_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.inputs import rows
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.embedding_map import EmbeddingMap
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer

WAYS = (
    "first",
    "before_question",
    "first without graphs",
    "before_question without graphs",
    "before_question unfused",
    "first header read again",
)


def make_trainer(
    rig: Rig, spec: JobSpec, folder: Path, worker: Worker, *, log_every: int = 1, cache: Path | None = None
) -> Trainer:
    """Return one worker's trainer of a spec, on the rig's models instead of loaded ones."""

    def load(_class: type[ModelPair], _spec: JobSpec, splits: Any, _device: torch.device, **_: Any) -> ModelPair:
        return rig.pair(spec, splits)

    run = paper_run(workers=worker.world, use_gpu=rig.device.type == "cuda", log_every=log_every)
    fitted = EmbeddingMap(  # random tables have no map to fit, and fitting takes minutes at this width
        weight=torch.eye(rig.models["target"].hidden_size, rig.models["source"].hidden_size),
        bias=torch.zeros(rig.models["target"].hidden_size),
        pairs=0,
        held_out_r2=0.0,
    )
    with (
        mock.patch.object(ModelPair, "load", classmethod(load)),
        mock.patch.object(geometry_projection, "fit_map", return_value=fitted),
    ):
        return Trainer(spec, run, folder, LocalSession(folder, worker), cache or folder / "cache")


@contextlib.contextmanager
def use_way(rig: Rig, way: str) -> Iterator[str]:
    """Switch the rig to one of `WAYS` within the block, and yield the position of the soft tokens."""
    bodies = {side: lm.body for side, lm in rig.models.items()}
    with contextlib.ExitStack() as stack:
        if "unfused" in way:
            for lm in rig.models.values():
                lm.body = None
        if "read again" in way:
            stack.enter_context(mock.patch.object(rows, "MIN_HEADER", 1 << 30))
        try:
            yield way.split(maxsplit=1)[0]
        finally:
            for side, lm in rig.models.items():
                lm.body = bodies[side]


def floor_seconds(rig: Rig, spec: JobSpec, way: str, limits: dict[str, float], batch: int) -> float:
    """Return a lower bound of a step's seconds: the student's FLOP or bytes, both passes, at the measured rates.

    Source and teacher cost nothing here: their states of the examples are cached.
    """
    lengths, reads_header_again = LENGTHS[rig.size], "read again" in way
    target = rig.models["target"]
    student = batch * (lengths.question + lengths.answer + spec.soft_tokens)
    student += batch * lengths.header if spec.soft_position == "first" or reads_header_again else 0
    flops, moved = matmul_flops(target, student), weight_bytes(target)
    return 2 * max(flops / limits["matmul_flop_per_s"], moved / limits["copy_bytes_per_s"])


def measure(rig: Rig, way: str, limits: dict[str, float], worker: Worker, *, steps: int = 32) -> dict[str, Any]:
    """Train some steps in one way; return their median time, its lower bound, peak memory and losses."""
    device = rig.device
    with use_way(rig, way) as position, tempfile.TemporaryDirectory() as name:
        spec = bench_spec(rig.size, soft_position=position, batch_size=2 * worker.world, steps=10_000, eval_every=5000)
        shared = os.environ.get("BENCH_CACHE")  # a folder that all processes see
        trainer = make_trainer(rig, spec, Path(name), worker, cache=Path(shared or name) / f"cache-{rig.size}")
        trainer.prepare()
        trainer.passes.graphed = trainer.passes.graphed and "without graphs" not in way and "unfused" not in way
        losses = record_losses(trainer)
        spent = []
        reset_peak(device)
        for _ in range(steps):
            begin = clock(device)
            trainer._train_step()
            spent.append(clock(device) - begin)
        trainer._read_steps()
        spent = sorted(spent[len(spent) // 2 :])  # in the first half new shapes are planned and captured
    return {
        "way": way,
        "workers": worker.world,
        "step_ms": round(1e3 * spent[len(spent) // 2], 2),
        "fastest_ms": round(1e3 * spent[0], 2),
        "slowest_ms": round(1e3 * spent[-1], 2),
        "floor_ms": round(1e3 * floor_seconds(rig, spec, way, limits, 2), 2),
        "peak_gib": peak_gib(device),
        "graphs": {name: len(calls.graphs) for name, calls in trainer.passes.graphs.items()},
        "eager_calls": {name: calls.eager_calls for name, calls in trainer.passes.graphs.items()},
        "losses": losses[:4] + losses[-2:],
    }


def record_losses(trainer: Trainer) -> list[list[float]]:
    """Return a list to which each further step adds its loss and gradient norm, to compare ways."""
    recorded: list[list[float]] = []
    log = trainer._log_step

    def log_and_record(losses: Any, norm: float, *rest: Any) -> None:
        recorded.append([round(losses.total, 5), round(norm, 5)])
        log(losses, norm, *rest)

    trainer._log_step = log_and_record  # type: ignore[method-assign]
    return recorded


def main() -> None:
    """Measure all ways and save the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "paper"), default="tiny")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    add_weights_option(parser)
    options = parser.parse_args()
    device = default_device()
    rig, limits, results = Rig(options.size, device, weights=options.weights), ceilings(device), []
    for way in options.ways:
        results.append(measure(rig, way, limits, Worker(device=device)))
        print(results[-1], flush=True)
    result = {"size": options.size, **rig.facts, "ceilings": limits, "rows": results}
    save(result_name(f"train-step-{options.size}", options.weights), result)


if __name__ == "__main__":
    main()
