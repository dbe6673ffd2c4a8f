"""The command that times a trained translator and prints what its answers cost, condition by condition."""

import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from bridge_common.metric_names import BRIDGE_BYTES, BRIDGE_PARAMETERS
from bridge_common.shown_names import condition_name
from cluster.cli.translators import device_option, load, source_option, target_option, trust_option

HEADER = (
    *("condition", "accuracy, %", "first token, s", "a question, s", "prefill", "cached", "decoded"),
    *("FLOPs", "source's", "bridge's", "passed", "states", "KV"),
)


@click.command()
@click.argument("run")
@click.option("--items", type=click.IntRange(min=2), default=16, help="test questions to decode again")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, help="questions that are answered together")
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
@device_option
@source_option
@target_option
@trust_option
def benchmark(
    run: str,
    items: int,
    batch_size: int,
    as_json: bool,
    device: str | None,
    source: str | None,
    target: str | None,
    plugins: tuple[str, ...],
) -> None:
    """Time a finished run's answers to test questions, and count what they cost (docs/costs.md).

    RUN is a trial's folder (STORAGE/CAMPAIGN/trials/NAME), or an exported bundle.
    """
    from ray_bridge.inference.benchmark import benchmark as measure
    from tune_spaces.appendix.cost_table import scaled

    translator = load(run, device, source, target, plugins)
    result = measure(translator, items, batch_size, say=partial(print, file=sys.stderr))
    if as_json:
        print(json.dumps(result.record(), indent=2))
        return
    print(table(result.rows()))
    threads = f", {result.threads} threads" if result.threads else ""
    at_once = "one at a time" if batch_size == 1 else f"{result.batch_size} at once"
    print(
        f"\n{result.questions} questions, {at_once}, on {result.device}{threads}; medians over batches, after one to "
        f"warm up. Bridge: {scaled(result.metrics[BRIDGE_PARAMETERS])} parameters, "
        f"{scaled(result.metrics[BRIDGE_BYTES], 'B')}."
    )


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows of a benchmark as a Markdown table."""
    from tune_spaces.appendix.cost_table import scaled, tokens

    lines: list[Sequence[str]] = [HEADER, ["---"] * len(HEADER)]
    for row in rows:
        seconds = [row["first_token_seconds"], row["seconds"]]
        lines.append(
            [
                condition_name(row["condition"]),
                f"{100 * row['accuracy']:.1f}",
                *("not timed" if value is None else f"{value:.3g}" for value in seconds),
                *(tokens(row[name]) for name in ("prefill_tokens", "cached_tokens", "decoded_tokens")),
                *(scaled(row.get(name)) for name in ("flops", "source_flops", "bridge_flops")),
                *(scaled(row[name], "B") for name in ("passed_bytes", "state_bytes", "kv_bytes")),
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


COMMANDS = (benchmark,)
