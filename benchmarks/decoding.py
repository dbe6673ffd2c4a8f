"""Time decoding: milliseconds per token step, prefill, and tokens per second, each with its lower bound.

python -m benchmarks.decoding --size tiny          a minute on a CPU; only ratios to eager decoding mean something
python -m benchmarks.decoding --size paper         Llama-3.1-8B's geometry, batch 50, 1,264-token prompts
python -m benchmarks.decoding ... --weights massive     activations as large as real ones
python -m benchmarks.decoding ... --lengths             whole answers, too: of full length, and as long as real ones
"""

import argparse
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.answer_lengths import LIMIT, time_both_lengths
from benchmarks.harness import ceilings, clock, default_device, peak_gib, reset_peak, save
from benchmarks.random_models import (
    Rig,
    add_weights_option,
    kv_bytes,
    matmul_flops,
    result_name,
    rows_of,
    weight_bytes,
)
from ray_bridge.generation.eager import decode_eager
from ray_bridge.generation.graphed import decode_graphed
from ray_bridge.generation.sampling import Sampling
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.noise import generator

WAYS = ("graphed", "torch", "transformers", "sampled", "eager")
"""CUDA graphs (the default); the same without Triton kernels; with transformers' layers; sampling; eager decoding."""
PAIRS = 3
"""Pairs of a short and a long call of which the median difference counts."""


def decode_by(
    lm: FrozenLM, rows: Sequence[Row], tokens: int, way: str, statistics: DecodingStatistics
) -> list[list[int]]:
    """Decode rows in one of `WAYS`, greedily unless it ends in `sampled`; return the new token ids of each row."""
    from ray_bridge.generation import kv_caches

    body, init = lm.body, kv_caches.FusedCache.__init__
    sampling = None
    if way.endswith("sampled"):
        sampling = Sampling(temperature=1.0, generators=[generator("bench", i) for i in range(len(rows))])
    if way.startswith("eager"):
        return decode_eager(lm, rows, None, tokens, sampling)

    def without_kernels(self: Any, *arguments: Any) -> None:
        init(self, *arguments)
        self.kernels = False

    try:
        if way == "transformers":
            lm.body = None
        if way == "torch":
            kv_caches.FusedCache.__init__ = without_kernels  # type: ignore[method-assign]
        return decode_graphed(lm, rows, None, tokens, sampling, statistics=statistics)
    finally:
        lm.body = body
        kv_caches.FusedCache.__init__ = init  # type: ignore[method-assign]


def step_time(
    lm: FrozenLM, rows: Sequence[Row], way: str, limits: dict[str, float], *, few: int = 17, many: int = 97
) -> dict[str, Any]:
    """Measure the time of a token step, from the difference between two answer lengths, and of prefill and capture.

    No row ends early, so that all steps have the same rows. Each call captures its graphs anew, and a capture's time
    varies by more than some steps take: the median of several pairs of calls counts.
    """
    ends, lm.ends = lm.ends, frozenset()
    reset_peak(lm.device)
    try:
        spent: dict[int, list[float]] = {few: [], many: []}
        for tokens in (few, *(few, many) * PAIRS):  # the first call warms up
            statistics = DecodingStatistics()
            begin = clock(lm.device)
            decode_by(lm, rows, tokens, way, statistics)
            spent[tokens].append(clock(lm.device) - begin)
    finally:
        lm.ends = ends
    differences = [long - short for short, long in zip(spent[few][1:], spent[many], strict=True)]
    step = median(differences) / (many - few)
    header = rows[0].header
    length = max(len(row.before) + len(row.prompt) for row in rows)
    own = (length - header + (few + many) / 2) * len(rows)
    floor = (weight_bytes(lm) + kv_bytes(lm, int(own + header))) / limits["copy_bytes_per_s"]
    read = (length - header) * len(rows)
    return {
        "way": way,
        "cache": statistics.cache or "eager",
        "batches": statistics.batches,
        "rows": len(rows),
        "prompt": length,
        "header": header,
        "step_ms": round(1e3 * step, 3),
        "floor_ms": round(1e3 * floor, 3),
        "tokens_per_s": round(len(rows) / step, 1),
        "step_ms_of_pairs": [round(1e3 * x / (many - few), 3) for x in differences],
        "prefill_and_capture_s": round(median(spent[few][1:]) - step * few, 3),
        "prefill_floor_s": round(matmul_flops(lm, read) / limits["matmul_flop_per_s"], 3),
        "peak_gib": peak_gib(lm.device),
    }


def answer_times(rig: Rig, rows: Sequence[Row], way: str, limit: int) -> dict[str, Any]:
    """Time whole answers of full length and of real lengths, prompts included, in one of `WAYS`."""
    lm, statistics = rig.models["target"], DecodingStatistics()
    decode_by(lm, rows, min(limit, 17), way, DecodingStatistics())  # warms up

    def answer() -> int:
        return sum(len(ids) for ids in decode_by(lm, rows, limit, way, statistics))

    facts = {"way": way, "rows": len(rows), "header": rows[0].header, "most_tokens": limit}
    return facts | time_both_lengths(rig, answer) | {"retired_rows": statistics.retired}


def main() -> None:
    """Measure all ways and save the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "paper"), default="tiny")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    parser.add_argument("--lengths", action="store_true", help="time whole answers of full and of real lengths, too")
    add_weights_option(parser)
    arguments = parser.parse_args()
    device = default_device()
    rig = Rig(arguments.size, device, "target", arguments.weights)
    lm = rig.models["target"]
    if arguments.size == "tiny":
        lm.fuse()
    limits = ceilings(device)
    shapes = (
        [(50, 1264, 0), (50, 1450, 1330), (160, 1514, 0)] if arguments.size == "paper" else [(8, 200, 0), (8, 200, 160)]
    )
    results = []
    for way in arguments.ways:
        for count, length, header in shapes[: None if way == "graphed" else 2 if way != "eager" else 1]:
            lengths = {} if arguments.size == "paper" else {"few": 5, "many": 25}
            row = step_time(lm, rows_of(lm, count, length, header=header), way, limits, **lengths)
            results.append(row)
            print(row, flush=True)
    answers = []
    for way in arguments.ways if arguments.lengths else ():
        for count, length, header in shapes[:2]:
            answers.append(answer_times(rig, rows_of(lm, count, length, header=header), way, LIMIT))
            print(answers[-1], flush=True)
    result = rig.facts | {"ceilings": limits, "rows": results, "answer_lengths": answers}
    save(result_name(f"decode-{arguments.size}", rig.weights), result)


if __name__ == "__main__":
    main()
