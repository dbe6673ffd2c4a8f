"""The whole phase-1 job on random weights: training, its evaluations, and the gate's evaluation of all test items.

    python -m benchmarks.phase1_job --size tiny                                     a minute on a CPU
    torchrun --nproc-per-node 4 -m benchmarks.phase1_job --size paper               2,000 steps, 10 evaluations of 200
    torchrun ... --position first                                                   the header in every row

On one GPU without torchrun: what each of four would do, less their collectives.
No answer ends before its limit, as in the figures of the reference.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.gpu_parts import no_end
from benchmarks.harness import environment, save, wait
from benchmarks.random_models import Rig, bench_spec
from benchmarks.train_step import make_trainer
from ray_bridge.distributed import Worker
from ray_bridge.generation.statistics import DecodingStatistics


def run_job(rig: Rig, worker: Worker, folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Run the loop of one worker and say where its time went."""
    spec = bench_spec(
        rig.size,
        soft_position=asked.position,
        batch_size=2 * worker.world,
        steps=asked.steps,
        eval_every=max(1, asked.steps // asked.evaluations),
        **share_of_one(rig.size, worker.world, asked.steps),
    )
    spent: dict[str, float] = {}
    peaks: dict[str, float] = {}
    steps: list[float] = []
    trainer = make_trainer(rig, spec, folder / f"rank{worker.rank}", worker, log_every=10, cache=folder / "cache")

    def note(name: str) -> None:
        if rig.device.type == "cuda":
            peaks[name] = max(peaks.get(name, 0.0), round(torch.cuda.max_memory_allocated(rig.device) / 2**30, 1))
            peaks["reserved"] = round(torch.cuda.max_memory_reserved(rig.device) / 2**30, 1)
            torch.cuda.reset_peak_memory_stats(rig.device)

    def clocked(name: str) -> None:
        action = getattr(trainer, name)

        def run(*arguments: Any) -> Any:
            wait(rig.device)
            begin = time.perf_counter()
            try:
                return action(*arguments)
            finally:
                wait(rig.device)
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - begin
                note(name)
                if name == "_train_step":
                    steps.append(time.perf_counter() - begin)

        setattr(trainer, name, run)

    for name in ("_fit_whitening", "_train_step", "_validate", "_checkpoint"):
        clocked(name)
    begin = time.perf_counter()
    trainer.prepare()
    spent["prepare"] = time.perf_counter() - begin
    if trainer.step == 0:
        trainer._fit_whitening()
    # Encoded before `no_end`, with the tokenizer's own EOS, which training supervises.
    trainer.pair.encoder([*trainer.splits.validation, *trainer.splits.test])
    while trainer.step < spec.steps:
        trainer._train_step()
        if trainer.step % spec.eval_every == 0:
            with no_end(rig):
                trainer._validate()
    trainer._checkpoint()
    trainer.session.wait()
    trainer.evaluator.statistics = DecodingStatistics()
    with no_end(rig):
        begin = time.perf_counter()
        trainer.evaluator.evaluate(trainer.splits.test, trainer._for_evaluation(), ["bridged"])
        spent["gate"] = time.perf_counter() - begin
        note("gate")
    return {
        "position": asked.position,
        "workers": worker.world,
        "steps": spec.steps,
        "evaluations": asked.evaluations,
        "items": [len(trainer.splits.validation), len(trainer.splits.test)],
        "step_ms": round(1e3 * median(steps[len(steps) // 3 :]), 1),
        "seconds": {name: round(value, 2) for name, value in spent.items()},
        "total_s": round(sum(spent.values()), 1),
        "peak_gib": peaks,
        "last_evaluation": f"{trainer.evaluator.statistics.batches} batches",
    }


def share_of_one(size: str, world: int, steps: int) -> dict[str, int]:
    """Examples of the job, no more than its steps see; one GPU alone takes the part that each of four would have."""
    if size == "tiny":
        return {"train_examples": min(64, 2 * world * steps)}
    parts = 4 if world == 1 else 1
    whole = {"train_examples": 7000, "validation_examples": 200, "test_examples": 1319}
    share = {name: -(-count // parts) for name, count in whole.items()}
    return share | {"train_examples": min(share["train_examples"], 2 * world * steps)}


def main() -> None:
    """Measure under torchrun, or in one process without it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "paper"), default="tiny")
    parser.add_argument("--position", choices=("first", "before_question"), default="before_question")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--evaluations", type=int, default=10)
    asked = parser.parse_args()
    asked.steps = asked.steps or (2000 if asked.size == "paper" else 20)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    if world > 1:
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    worker = Worker(rank=rank, world=world, device=device)
    begin = time.perf_counter()
    rig = Rig(asked.size, device)
    loading = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as name:
        folder = Path(str(worker.gather(name)[0]))
        found = run_job(rig, worker, folder, asked) | {"loading_s": round(loading, 1)}
        worker.barrier()
    if worker.first:
        print(found)
        save(f"phase1-{asked.size}-{asked.position}", {"environment": environment(device), **found})
    if world > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
