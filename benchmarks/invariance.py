"""How much answers in bf16 vary with the batch that they are decoded in, and what `batch_invariant` costs.

    make real && python -m benchmarks.invariance --data DIR [--items 1319] [--new-tokens 128] [--seconds 150]
    python -m benchmarks.invariance --geometry paper [--items 330]

DIR, or one of the two files in it, holds GSM8K's train.jsonl and test.jsonl. A real model is source and target, and the
bridge's weights are noise. The questions are answered in several batchings, as trained and under `batch_invariant`: all
at once, in two shuffled halves, and in the shares of four workers. Items whose text, extracted answer or verdict is not
that of the first batching are counted, and every pass is timed. Passes take turns, so that a shorter `--seconds` leaves
out the last ones. With `--geometry` random models of the paper's size write answers of full length to random prompts.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.answer_lengths import full_length_answers
from benchmarks.harness import clock, default_device, environment, peak_gib, save
from benchmarks.random_models import Rig, bench_spec
from benchmarks.real_pair import REAL_MODEL
from benchmarks.train_step import make_trainer
from ray_bridge.bridges.translator import TranslatorModule, build_translator
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.presets import paper
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.gpu.settings import configure_torch
from ray_bridge.model_pair import ModelPair
from ray_bridge.tasks.splits import load_splits
from ray_bridge.tasks.task import Example

WAYS = {"as trained": False, "batch_invariant": True}
WORKERS = 4
Samples = list[dict[str, Any]]
Batching = list[list[int]]
"""Indices of the questions of each call, which covers all of them."""


def batchings(count: int) -> dict[str, Batching]:
    """Return the ways to put questions into calls, by name; the first is what the others are compared with."""
    shuffled = list(range(count))
    random.Random(0).shuffle(shuffled)
    half = -(-count // 2)
    shares = [list(range(rank, count, WORKERS)) for rank in range(WORKERS)]
    return {
        "all at once": [list(range(count))],
        "shuffled halves": [part for part in (shuffled[:half], shuffled[half:]) if part],
        f"shares of {WORKERS} workers": [share for share in shares if share],
    }


class Bench:
    """A pair of models with a bridge whose weights are noise, and the questions that it answers."""

    def __init__(
        self,
        pairs: dict[str, ModelPair],
        translator: TranslatorModule,
        examples: Sequence[Example],
        device: torch.device,
    ) -> None:
        self.pairs, self.translator, self.examples, self.device = pairs, translator, list(examples), device

    def answer(self, way: str, batching: Batching, conditions: Sequence[str], batch: int) -> tuple[Samples, float]:
        """Return the samples of all questions in their order, and the seconds that they took."""
        samples: dict[int, dict[str, Any]] = {}
        evaluator = Evaluator(self.pairs[way], Worker(device=self.device), batch, NodeCache(None))
        begin = clock(self.device)
        for part in batching:
            rows = evaluator.evaluate([self.examples[i] for i in part], self.translator, conditions)
            samples |= dict(zip(part, rows, strict=True))
        return [samples[i] for i in range(len(samples))], clock(self.device) - begin


def real_bench(options: argparse.Namespace, device: torch.device) -> Bench:
    """Return the real model on both sides with GSM8K's test questions."""
    data = options.data.parent if options.data.is_file() else options.data
    spec = paper(
        source=str(options.model),
        target=str(options.model),
        source_layer=20,
        task_data=str(data),
        num_fewshot=options.fewshot,
        soft_position=options.position,
        validation_examples=8,
        train_examples=64,
        test_examples=options.items,
        hidden_size=512,
        depth=4,
        num_heads=8,
        max_new_tokens=options.new_tokens,
        decode_aware=False,
    )
    splits = load_splits(spec)
    first = ModelPair.load(spec, splits, device)
    specs = {way: spec.replace(batch_invariant=fixed) for way, fixed in WAYS.items()}
    pairs = {way: ModelPair.of(own, splits, first.source, first.target) for way, own in specs.items()}
    translator = build_translator(spec, first.source, first.target).to(device)
    return Bench(pairs, shake(translator), splits.test, device)


def random_bench(options: argparse.Namespace, device: torch.device, folder: Path) -> tuple[Bench, Rig]:
    """Return random models in a geometry with random prompts."""
    rig = Rig(options.geometry, device)
    changes = {"soft_position": options.position, "test_examples": options.items}
    changes |= {"max_new_tokens": options.new_tokens} if options.new_tokens else {}
    spec = bench_spec(options.geometry, **changes)
    trainer = make_trainer(rig, spec, folder, Worker(device=device))
    specs = {way: spec.replace(batch_invariant=fixed) for way, fixed in WAYS.items()}
    pairs = {way: rig.pair(own, trainer.splits) for way, own in specs.items()}
    return Bench(pairs, shake(trainer.translator), trainer.splits.test, device), rig


def shake(translator: TranslatorModule) -> TranslatorModule:
    """Add seeded noise to all weights: the gates of an untrained bridge are 0, which hides the source."""
    draw = torch.Generator().manual_seed(0)
    for parameter in translator.parameters():
        width = parameter.shape[-1] if parameter.dim() else 1
        parameter.data += (0.5 * width**-0.5 * torch.randn(parameter.shape, generator=draw)).to(parameter)
    return translator.eval()


def compare(passes: dict[str, Samples], conditions: Sequence[str]) -> dict[str, Any] | None:
    """Return, by condition, how many items are not in every batching what they are in the first; None for one alone."""
    first, *others = passes.values()
    if not others:
        return None
    found: dict[str, Any] = {}
    for condition in conditions:
        changed = {
            part: sum(any(rows[i][name] != one[name] for rows in others) for i, one in enumerate(first))
            for part, name in (
                ("texts", f"{condition}_output"),
                ("answers", f"{condition}_answer"),
                ("verdicts", f"{condition}_correct"),
            )
        }
        accuracies = {
            name: round(sum(row[f"{condition}_correct"] for row in rows) / len(rows), 5)
            for name, rows in passes.items()
        }
        found[condition] = {
            "items": len(first),
            "other_in_some_batching": changed,
            "share_other_in_some_batching": {part: round(count / len(first), 5) for part, count in changed.items()},
            "texts_other_by_batching": {
                name: sum(
                    a[f"{condition}_output"] != b[f"{condition}_output"] for a, b in zip(rows, first, strict=True)
                )
                for name, rows in list(passes.items())[1:]
            },
            "accuracy": accuracies,
            "largest_accuracy_difference": round(max(accuracies.values()) - min(accuracies.values()), 5),
        }
    return found


def differences(ways: dict[str, dict[str, Any] | None]) -> list[str]:
    """Return a line for each way and condition, or that a way was measured in one batching alone."""
    lines = []
    for way, by_condition in ways.items():
        if by_condition is None:
            lines.append(f"{way}: one batching alone, so that nothing is compared: give it more --seconds")
            continue
        for condition, found in by_condition.items():
            lines.append(f"{way}, {condition}: {found['other_in_some_batching']} of {found['items']} items differ")
    return lines


def measure(bench: Bench, options: argparse.Namespace, write: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Answer in turns in all batchings and both ways while time allows, and write what is known after each pass."""
    conditions, began = options.conditions, clock(bench.device)
    ways = batchings(len(bench.examples))
    warm_up = [list(range(min(4, len(bench.examples))))]
    for way in WAYS:
        bench.answer(way, warm_up, conditions, options.batch)
    passes: dict[str, dict[str, Samples]] = {way: {} for way in WAYS}
    seconds: dict[str, dict[str, list[float]]] = {way: {} for way in WAYS}
    names = [*ways, *[next(iter(ways))] * (options.repeats - 1)]
    result: dict[str, Any] = {}
    left_out: list[str] = []
    for name in names:
        for way in WAYS:
            spent = clock(bench.device) - began
            usual = max((each for times in seconds[way].values() for each in times), default=0.0)
            if options.seconds and spent + 1.3 * usual > options.seconds and usual:
                left_out.append(f"{way}: {name}")
                continue
            samples, took = bench.answer(way, ways[name], conditions, options.batch)
            passes[way].setdefault(name, samples)
            seconds[way].setdefault(name, []).append(round(took, 2))
            print(f"{way}, {name}: {took:.1f} s", flush=True)
            result = {
                "seconds": seconds,
                "left_out_for_time": left_out,
                "ways": {way: compare(made, conditions) for way, made in passes.items() if made},
            }
            shared = [name for name in seconds["as trained"] if name in seconds["batch_invariant"]]
            result["times_as_long"] = {
                name: round(median(seconds["batch_invariant"][name]) / median(seconds["as trained"][name]), 2)
                for name in shared
            }
            both = {way: next(iter(made.values())) for way, made in passes.items() if made}
            if len(both) == len(WAYS):
                result["between_ways"] = compare(both, conditions)
            write(result)
    return result


def main() -> int:
    """Measure, and save the results after each pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=REAL_MODEL)
    parser.add_argument("--data", type=Path, help="folder with GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--geometry", choices=("paper", "tiny"), help="random models instead of the real one")
    parser.add_argument("--items", type=int, help="questions; 1319, or 330 with --geometry")
    parser.add_argument("--new-tokens", type=int, help="most tokens of an answer; 128, or the paper's with --geometry")
    parser.add_argument("--fewshot", type=int, default=8)
    parser.add_argument("--position", choices=("first", "before_question"), default="before_question")
    parser.add_argument("--conditions", type=lambda text: text.split(","), default=["bridged", "target_alone"])
    parser.add_argument("--batch", type=int, default=36, help="eval_batch_size; with CUDA graphs it changes nothing")
    parser.add_argument("--repeats", type=int, default=1, help="passes of all questions at once, for their time")
    parser.add_argument("--seconds", type=float, default=0.0, help="begin no pass that would end later; 0 is no limit")
    parser.add_argument("--device", choices=("cuda", "cpu"))
    options = parser.parse_args()
    if not options.geometry and options.data is None:
        parser.error("--data or --geometry is needed")
    options.items = options.items or (330 if options.geometry else 1319)
    options.new_tokens = options.new_tokens or (None if options.geometry else 128)
    device = torch.device("cpu") if options.device == "cpu" else default_device()
    if options.device == "cuda" and device.type != "cuda":
        parser.error("there is no GPU")
    configure_torch(device)
    name = f"invariance-{options.geometry}" if options.geometry else "invariance"
    with tempfile.TemporaryDirectory() as folder:
        if options.geometry:
            bench, rig = random_bench(options, device, Path(folder))
        else:
            bench, rig = real_bench(options, device), None
        facts = {
            "environment": environment(device),
            "dtype": str(bench.pairs["as trained"].target.dtype),
            "fast_paths": bench.pairs["as trained"].fast_paths(),
        }

        def write(result: dict[str, Any]) -> None:
            save(name, {**facts, **result, "peak_gib": peak_gib(device)})

        with nullcontext() if rig is None else full_length_answers(rig):
            result = measure(bench, options, write)
    print(*differences(result["ways"]), sep="\n")
    print("times as long:", result["times_as_long"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
