"""Say where the time of the paper's job goes on a GPU: a training step by kind of kernel, the gate by part.

    python -m benchmarks.job_profile --size paper          random weights, the share of one GPU in four
    python -m benchmarks.job_profile --size tiny           a rehearsal on a CPU

A step is profiled with the few-shot header cached, after its passes are captured. The gate is timed with the header in
every row, where prompts cannot be shared, or `--position before_question`: making the soft tokens, reading the prompts,
decoding. Its answers have full length, then lengths like real ones (`answer_lengths`), then these again in fixed waves,
where rows wait until all others have ended. Beside each stands the least that the card could take, from products and
bandwidth that are measured in the same run.
"""

import argparse
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch

from benchmarks.answer_lengths import full_length_answers, real_length_answers
from benchmarks.harness import ceilings, clock, default_device, save
from benchmarks.random_models import LENGTHS, Rig, bench_spec, kv_bytes, matmul_flops, weight_bytes
from benchmarks.train_step import floor_seconds, make_trainer
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.generation import graphed_batch
from ray_bridge.generation.graphed_batch import GraphedBatch
from ray_bridge.generation.statistics import DecodingStatistics

KINDS = {
    "attention": r"fmha|flash|attend|attention|cudnn|^_(forward|queries|keys)$",
    "matrix products": r"gemm|nvjet|cutlass|cublas|splitk",
    "optimiser": r"multi_tensor|adam|foreach",
    "copies and fills": r"memcpy|memset|copy_kernel|fill",
    "norms, softmax, sums": r"norm|softmax|reduce|logsumexp",
    "rotary embedding and SwiGLU": r"rotate|swiglu|rotary",
}
"""What a kernel is, by a pattern of its name; the first that fits counts. Others are `elementwise and the rest`."""
SMALL_US = 10.0


def kind_of(name: str) -> str:
    """Return the kind of a kernel."""
    return next((kind for kind, form in KINDS.items() if re.search(form, name, re.I)), "elementwise and the rest")


def busy_us(spans: Sequence[tuple[float, float]]) -> float:
    """Return for how long at least one of some spans of time, (begin, end), runs."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def profile_steps(trainer: Any, device: torch.device, count: int) -> dict[str, Any]:
    """Profile training steps; return the device's time a step by kind of kernel, and for how long it is idle."""
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CUDA if device.type == "cuda" else activity.CPU]) as profiler:
        for _ in range(count):
            trainer._train_step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    kinds: dict[str, dict[str, float]] = {}
    spans = []
    for event in profiler.events() or []:
        if device.type == "cuda" and event.device_type != torch.autograd.DeviceType.CUDA:
            continue
        begin, end = event.time_range.start, event.time_range.end
        spans.append((begin, end))
        row = kinds.setdefault(kind_of(event.name), {"ms": 0.0, "kernels": 0, "under_10_us": 0, "ms_under_10_us": 0.0})
        row["ms"] += (end - begin) / 1e3 / count
        row["kernels"] += 1 / count
        if end - begin < SMALL_US:
            row["under_10_us"] += 1 / count
            row["ms_under_10_us"] += (end - begin) / 1e3 / count
    kinds = {k: {n: round(v, 2) for n, v in row.items()} for k, row in sorted(kinds.items(), key=lambda x: -x[1]["ms"])}
    return {"busy_ms": round(busy_us(spans) / 1e3 / count, 2), "kinds": kinds}


def measure_step(rig: Rig, limits: dict[str, float], warm_up: int) -> dict[str, Any]:
    """Time and profile the training step with the header cached."""
    spec = bench_spec(rig.size, soft_position="before_question", batch_size=2, steps=10_000, eval_every=5000)
    with tempfile.TemporaryDirectory() as name:
        trainer = make_trainer(rig, spec, Path(name), Worker(device=rig.device))
        trainer.prepare()
        for _ in range(warm_up):
            trainer._train_step()
        count, spent, waited = max(2, warm_up // 2), [], []
        for _ in range(3):
            begin = clock(rig.device)
            for _ in range(count):
                trainer._train_step()
            spent.append((clock(rig.device) - begin) / count)
        for _ in range(count):
            begin = clock(rig.device)
            trainer._train_step()
            waited.append(clock(rig.device) - begin)
        found = profile_steps(trainer, rig.device, 10 if rig.device.type == "cuda" else 1)
        graphs = {name: len(calls.graphs) for name, calls in trainer.passes.graphs.items()}
    return {
        "step_ms": round(1e3 * median(spent), 2),
        "step_ms_if_each_is_waited_for": round(1e3 * median(waited), 2),
        "floor_ms": round(1e3 * floor_seconds(rig, spec, "before_question", limits, 2), 2),
        "graphs": graphs,
        "profile": found,
    }


@contextmanager
def timed_method(owner: Any, name: str, device: torch.device, seconds: dict[str, float]) -> Iterator[None]:
    """Add the seconds of each call of a method to `seconds[name]` within the block; waits for the device."""
    method: Callable[..., Any] = getattr(owner, name)

    def run(*arguments: Any, **named: Any) -> Any:
        begin = clock(device)
        try:
            return method(*arguments, **named)
        finally:
            seconds[name] = seconds.get(name, 0.0) + clock(device) - begin

    setattr(owner, name, run)
    try:
        yield
    finally:
        setattr(owner, name, method)


def measure_gate(rig: Rig, limits: dict[str, float], items: int, position: str) -> dict[str, Any]:
    """Time the gate's evaluation by part: answers of full length, of real lengths, and these in fixed waves."""
    spec = bench_spec(
        rig.size, soft_position=position, batch_size=2, steps=10_000, eval_every=5000, test_examples=items
    )
    with tempfile.TemporaryDirectory() as name:
        trainer = make_trainer(rig, spec, Path(name), Worker(device=rig.device))
        examples = trainer.splits.test[:items]
        trainer.pair.encoder(examples)
        translator, evaluator = trainer._for_evaluation(), trainer.evaluator
        with full_length_answers(rig):
            evaluator.evaluate(examples[: max(4, items // 8)], translator, ["bridged"])  # plans and loads kernels
        waves = mock.patch.object(graphed_batch, "REFILL_SHARE", 1.0)  # no row comes before all of a wave have ended
        real = list(rig.models.values())
        results = {}
        for way, contexts in {
            "answers of full length": [full_length_answers(rig)],
            "answers of real lengths": [real_length_answers(real)],
            "answers of real lengths, in waves": [real_length_answers(real), waves],
        }.items():
            with ExitStack() as stack:
                for context in contexts:
                    stack.enter_context(context)
                results[way] = time_evaluation(evaluator, translator, examples, rig.device)
    lengths, target, source = LENGTHS[rig.size], rig.models["target"], rig.models["source"]
    new = spec.max_new_tokens
    header = lengths.header if position == "first" else 0
    prompt = header + lengths.question + spec.soft_tokens
    cache = items * kv_bytes(target, prompt + new // 2)
    steps = max(new, results["answers of full length"]["decode_steps"])  # 0 where decoding is eager
    return {
        "items": items,
        "new_tokens": new,
        **results,
        "floors_s": {
            "soft": round(matmul_flops(source, items * lengths.question) / limits["matmul_flop_per_s"], 2),
            "prefill": round(matmul_flops(target, items * prompt) / limits["matmul_flop_per_s"], 2),
            "decoding": round((steps * weight_bytes(target) + new * cache) / limits["copy_bytes_per_s"], 2),
        },
    }


def time_evaluation(evaluator: Evaluator, translator: Any, examples: Sequence[Any], device: torch.device) -> Any:
    """Time one evaluation of the bridged condition, by part, and count what was decoded."""
    evaluator.statistics = DecodingStatistics()
    seconds: dict[str, float] = {}
    with (
        timed_method(Evaluator, "soft", device, seconds),
        timed_method(GraphedBatch, "_prefill", device, seconds),
        timed_method(GraphedBatch, "_capture", device, seconds),
    ):
        begin = clock(device)
        rows = evaluator.evaluate(examples, translator, ["bridged"])
        whole = clock(device) - begin
    statistics = evaluator.statistics
    return {
        "seconds": round(whole, 2),
        "parts_s": {name.lstrip("_"): round(value, 2) for name, value in seconds.items()},
        "decoding_s": round(whole - sum(seconds.values()), 2),
        "written": sum(row["bridged_tokens"] for row in rows),
        "batches": max(1, statistics.batches),
        "decode_steps": statistics.steps,
        "retired_rows": statistics.retired,
        "refilled_rows": statistics.refilled,
    }


def main() -> None:
    """Profile both and save the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "paper"), default="tiny")
    parser.add_argument("--items", type=int, default=None, help="test items of the gate (330, tiny: 8)")
    parser.add_argument("--position", choices=("first", "before_question"), default="first", help="of Z, at the gate")
    parser.add_argument("--gate", action="store_true", help="time the gate alone")
    options = parser.parse_args()
    device, paper = default_device(), options.size == "paper"
    begin = time.perf_counter()
    rig, limits = Rig(options.size, device), ceilings(device)
    result: dict[str, Any] = {"size": options.size, "ceilings": limits}
    items, header = options.items or (330 if paper else 8), "in every row" if options.position == "first" else "cached"
    parts: dict[str, Callable[[], Any]] = {
        "training step, header cached": lambda: measure_step(rig, limits, 40 if paper else 2),
        f"gate, header {header}": lambda: measure_gate(rig, limits, items, options.position),
    }
    if options.gate:
        del parts["training step, header cached"]
    for name, part in parts.items():
        result[name] = part()
        print(name, result[name], flush=True)
        save(
            f"job-profile-{options.size}-{options.position}-{items}",
            result | {"seconds": round(time.perf_counter() - begin, 1)},
        )


if __name__ == "__main__":
    main()
