"""Time answering by soft tokens beside the model's own `generate`: the same rows, soft tokens and ends, in one process.

    make real && python -m benchmarks.peers --data DIR [--rows 32] [--batch 16] [--dtype float32]

DIR holds GSM8K's train.jsonl and test.jsonl. Every way gets the rows in order of their length, so that `generate`,
which pads the rows of a batch to one length, pads little. It reads the few-shot header with each row: its batches share
nothing. This project's decoding reads the header once, at the beginning of each turn: what it keeps of a header is
dropped before. (The stored results peers-smollm2-*.json were measured with the header kept from the warm-up.) The soft
tokens are noise of the size of the model's embeddings, in the place of a bridge's. Each way answers once as a warm-up;
then all take turns, and medians count.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.harness import clock, default_device, peak_gib, save
from benchmarks.real_pair import REAL_MODEL
from ray_bridge.config.presets import paper
from ray_bridge.generation.generate import decode_rows
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inputs.encoding import Encoder
from ray_bridge.inputs.layout import assemble
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.noise import normal
from ray_bridge.tasks.splits import load_splits

WAYS = ("own", "generate", "generate-static")
"""This project's decoding; transformers' `generate` with its growing cache, and with its cache of fixed size, whose
step it compiles on a GPU."""


def questions(lm: FrozenLM, options: argparse.Namespace) -> list[Row]:
    """Return test questions after their few-shot header, shortest first."""
    spec = paper(task_data=str(options.data), num_fewshot=options.fewshot, soft_position="before_question")
    splits = load_splits(spec)
    encode = Encoder(spec, splits.task, splits.header, lm, lm, exemplars=splits.exemplars)
    rows = [item.row.without_answer() for item in encode(splits.test[: options.rows])]
    return sorted(rows, key=lambda row: len(row.before) + len(row.prompt))


def soft_tokens(lm: FrozenLM, rows: int, count: int) -> SoftContext:
    """Return seeded noise in the place of soft tokens, (rows, count, d_t), of the size of the model's embeddings."""
    noise = normal((count, lm.hidden_size), [("peers", i) for i in range(rows)])
    return SoftContext(adapters={}, tokens=noise.to(lm.device, lm.dtype) * lm.embedding_rms)


def answer(lm: FrozenLM, rows: Sequence[Row], soft: SoftContext, way: str, options: argparse.Namespace) -> list[Any]:
    """Answer all rows in one of `WAYS`, `options.batch` at once; return each row's new ids without its end."""
    stopping, made = Stopping.of(lm), []
    for first in range(0, len(rows), options.batch):
        part = range(first, min(first + options.batch, len(rows)))
        given = ([rows[i] for i in part], soft.rows(list(part)))
        if way == "own":
            made += decode_rows(lm, *given, options.new_tokens)
            continue
        batch = assemble(lm, *given, pad="left")
        made += lm.model.generate(
            inputs_embeds=batch.embeds,
            attention_mask=batch.mask,
            max_new_tokens=options.new_tokens,
            do_sample=False,
            eos_token_id=sorted(lm.ends) or None,
            pad_token_id=lm.pad,
            cache_implementation="static" if way == "generate-static" else None,
        ).tolist()
    return [stopping.cut(ids)[0] for ids in made]


def take_turn(
    lm: FrozenLM, rows: Sequence[Row], soft: SoftContext, way: str, options: argparse.Namespace
) -> tuple[list[Any], float]:
    """Answer all rows in one of `WAYS` with nothing kept of their header; return the answers and the seconds."""
    lm._prefixes.clear()
    begin = clock(lm.device)
    answers = answer(lm, rows, soft, way, options)
    return answers, clock(lm.device) - begin


def main() -> int:
    """Measure all ways in turn, compare their answers, and save the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=REAL_MODEL)
    parser.add_argument("--data", type=Path, required=True, help="folder with GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--fewshot", type=int, default=8)
    parser.add_argument("--soft-tokens", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", choices=("bfloat16", "float32", "float64"), default="float32")
    options = parser.parse_args()
    device = default_device()
    lm = FrozenLM.load(str(options.model), dtype=options.dtype, device=device)
    rows = questions(lm, options)
    soft = soft_tokens(lm, len(rows), options.soft_tokens)
    spent: dict[str, list[float]] = {way: [] for way in WAYS}
    answers: dict[str, list[Any]] = {}
    with torch.no_grad():
        for turn in range(1 + options.repeats):
            for way in WAYS:
                answers[way], seconds = take_turn(lm, rows, soft, way, options)
                if turn:
                    spent[way].append(seconds)
                    print(f"turn {turn} {way}: {spent[way][-1]:.1f} s", flush=True)
    tokens = {way: sum(map(len, made)) for way, made in answers.items()}
    table = [
        {
            "way": way,
            "seconds": round(median(times), 2),
            "seconds_of_turns": [round(each, 2) for each in times],
            "new_tokens": tokens[way],
            "tokens_per_s": round(tokens[way] / median(times), 1),
            "times_own": round(median(times) / median(spent["own"]), 2),
            "answers_as_own": sum(a == b for a, b in zip(answers[way], answers["own"], strict=True)),
        }
        for way, times in spent.items()
    ]
    summary = {
        "dtype": options.dtype,
        "rows": len(rows),
        "prompt_tokens": [len(row.before) + len(row.prompt) + options.soft_tokens for row in (rows[0], rows[-1])],
        "header_tokens": rows[0].header,
        "fast_paths": lm.slow_paths() or "all",
        "peak_gib": peak_gib(device),
        "ways": table,
    }
    print(*table, sep="\n")
    save(f"peers-{options.dtype}", summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
