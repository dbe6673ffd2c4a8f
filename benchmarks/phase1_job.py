"""Time the whole phase-1 job on random weights: training, its evaluations, and the gate's evaluation of the test split.

    python -m benchmarks.phase1_job --size tiny                                     a minute on a CPU
    torchrun --nproc-per-node 4 -m benchmarks.phase1_job --size paper               2,000 steps, 10 evaluations of 200
    torchrun ... --position first                                                   the few-shot header in every row
    torchrun ... --weights massive                                                  activations as large as real ones

On one GPU without torchrun it times the share of one GPU in four, without their collectives. Answers always have the
largest number of new tokens, as in the reference measurements; after the job the gate's evaluation is timed twice more,
with these and with answers that are as long as real ones (`answer_lengths`), of which the result has the ratio.
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

from benchmarks.answer_lengths import full_length_answers, time_both_lengths
from benchmarks.harness import save, wait
from benchmarks.random_models import Rig, add_weights_option, bench_spec, result_name
from benchmarks.train_step import make_trainer
from ray_bridge.distributed import Worker
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.training.trainer import Trainer


def run_job(rig: Rig, worker: Worker, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run one worker's training loop and return the seconds and the peak memory of each stage."""
    spec = bench_spec(
        rig.size,
        soft_position=options.position,
        batch_size=2 * worker.world,
        steps=options.steps,
        eval_every=max(1, options.steps // options.evaluations),
        **split_sizes(rig.size, worker.world, options.steps),
    )
    seconds: dict[str, float] = {}
    peaks: dict[str, float] = {}
    step_seconds: list[float] = []  # of a step, mean over those between two evaluations
    trainer = make_trainer(rig, spec, folder / f"rank{worker.rank}", worker, log_every=10, cache=folder / "cache")

    def record_peak(name: str) -> None:
        if rig.device.type == "cuda":
            peaks[name] = max(peaks.get(name, 0.0), round(torch.cuda.max_memory_allocated(rig.device) / 2**30, 1))
            peaks["reserved"] = round(torch.cuda.max_memory_reserved(rig.device) / 2**30, 1)
            torch.cuda.reset_peak_memory_stats(rig.device)

    def time_method(name: str) -> None:
        action = getattr(trainer, name)

        def run(*arguments: Any) -> Any:
            wait(rig.device)
            begin = time.perf_counter()
            try:
                return action(*arguments)
            finally:
                wait(rig.device)
                seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - begin
                record_peak(name)

        setattr(trainer, name, run)

    for name in ("_fit_whitening", "_validate", "_checkpoint"):
        time_method(name)
    begin = time.perf_counter()
    trainer.prepare()
    seconds["prepare"] = time.perf_counter() - begin
    if trainer.step == 0:
        trainer._fit_whitening()
    # Encoded before `full_length_answers`, with the tokenizer's own EOS, which training supervises.
    trainer.pair.encoder([*trainer.splits.validation, *trainer.splits.test])
    while trainer.step < spec.steps:
        first, spent = trainer.step, train_until_evaluation(trainer, rig.device)
        seconds["_train_step"] = seconds.get("_train_step", 0.0) + spent
        step_seconds.append(spent / (trainer.step - first))
        record_peak("_train_step")
        if trainer.step % spec.eval_every == 0:
            with full_length_answers(rig):
                trainer._validate()
    trainer._checkpoint()
    trainer.session.wait()
    trainer.evaluator.statistics = DecodingStatistics()
    with full_length_answers(rig):
        begin = time.perf_counter()
        trainer.evaluator.evaluate(trainer.splits.test, trainer._for_evaluation(), ["bridged"])
        seconds["gate"] = time.perf_counter() - begin
        record_peak("gate")

    def answer() -> int:
        samples = trainer.evaluator.evaluate(trainer.splits.test, trainer._for_evaluation(), ["bridged"])
        return sum(row["bridged_tokens"] for row in samples)

    batches = trainer.evaluator.statistics.batches
    lengths = time_both_lengths(rig, answer)
    return {
        "position": options.position,
        **rig.facts,
        "workers": worker.world,
        "steps": spec.steps,
        "evaluations": options.evaluations,
        "items": [len(trainer.splits.validation), len(trainer.splits.test)],
        "new_tokens": spec.max_new_tokens,
        "step_ms": round(1e3 * median(step_seconds[len(step_seconds) // 3 :]), 1),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "total_s": round(sum(seconds.values()), 1),
        "peak_gib": peaks,
        "last_evaluation": f"{batches} batches",
        "answer_lengths": lengths | {"retired_rows": trainer.evaluator.statistics.retired},
    }


def train_until_evaluation(trainer: Trainer, device: torch.device) -> float:
    """Run the steps up to the next evaluation as a job does, which does not wait for each, and return their seconds."""
    wait(device)
    begin, first, spec = time.perf_counter(), trainer.step, trainer.spec
    while trainer.step < spec.steps and (trainer.step == first or trainer.step % spec.eval_every):
        trainer._train_step()
    trainer._read_steps()
    wait(device)
    return time.perf_counter() - begin


def split_sizes(size: str, world: int, steps: int) -> dict[str, int]:
    """Return the sizes of the splits: a quarter of each on one GPU; no more training examples than the steps use."""
    if size == "tiny":
        return {"train_examples": min(64, 2 * world * steps)}
    parts = 4 if world == 1 else 1
    whole = {"train_examples": 7000, "validation_examples": 200, "test_examples": 1319}
    share = {name: -(-count // parts) for name, count in whole.items()}
    return share | {"train_examples": min(share["train_examples"], 2 * world * steps)}


def main() -> None:
    """Run under torchrun, or in one process without it, and save the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "paper"), default="tiny")
    parser.add_argument("--position", choices=("first", "before_question"), default="before_question")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--evaluations", type=int, default=10)
    add_weights_option(parser)
    options = parser.parse_args()
    options.steps = options.steps or (2000 if options.size == "paper" else 20)
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
    rig = Rig(options.size, device, weights=options.weights)
    loading = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as name:
        folder = Path(str(worker.gather(name)[0]))
        result = run_job(rig, worker, folder, options) | {"loading_s": round(loading, 1)}
        worker.barrier()
    if worker.first:
        print(result)
        save(result_name(f"phase1-{options.size}-{options.position}", options.weights), result)
    if world > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
