"""Plots of accuracy at K tokens: what K soft tokens reach, what text of as many does, and the memory that each takes.

Two quantities are two panels, never two axes of one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tune_spaces.analysis.compression import ALONE, WAYS
from tune_spaces.appendix import plots
from tune_spaces.appendix.plots import COLOURS, GREY, MARKERS, WIDTH, Record


def _panels(height: float) -> tuple[Any, Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.35 * WIDTH, height), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure, left, right


def _by_tokens(axes: Any, sizes: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()


def _intervals(axes: Any, xs: Sequence[float], rows: Sequence[Record], **style: Any) -> None:
    values = [100 * row["accuracy"] for row in rows]
    unknown = float("nan")  # draws no interval
    below = [unknown if row["low"] is None else 100 * (row["accuracy"] - row["low"]) for row in rows]
    above = [unknown if row["high"] is None else 100 * (row["high"] - row["accuracy"]) for row in rows]
    axes.errorbar(xs, values, yerr=[below, above], capsize=3, linewidth=1.2, markersize=5, **style)


def accuracy_by_soft_tokens(path: Path, rows: Sequence[Record], *, baseline: float | None = None) -> Path:
    """Plot accuracy against the number of soft tokens and, in a panel beside it, the memory that they save.

    Args:
        path: PNG file to write.
        rows: `K`, `accuracy`, `low`, `high` as fractions, and, if known, `saved`: the share of the text prompt's KV
            cache that is saved, negative if soft tokens are added to the prompt.
        baseline: accuracy of the target alone, drawn as a dashed line.

    Returns:
        The path.
    """
    ordered = sorted(rows, key=lambda row: row["K"])
    saved = [(row["K"], 100 * row["saved"]) for row in ordered if row.get("saved") is not None]
    if saved:
        figure, axes, right = _panels(4.2)
        right.plot(*zip(*saved, strict=True), "s-", color=COLOURS[1])
        _by_tokens(right, [k for k, _ in saved])
        right.set_xlabel("soft tokens K")
        right.set_ylabel("KV-cache memory saved, % of the text prompt's")
    else:
        figure, axes = plots._axes(4.2)
    _intervals(axes, [row["K"] for row in ordered], ordered, fmt="o-", color=COLOURS[0], label="bridged accuracy")
    if baseline is not None:
        axes.axhline(100 * baseline, linestyle="--", color=GREY, label="target alone")
    _by_tokens(axes, [row["K"] for row in ordered])
    axes.set_xlabel("soft tokens K")
    axes.set_ylabel("accuracy, % (95 % interval)")
    axes.legend(frameon=False, fontsize=9)
    return plots._save(figure, path)


def compression(path: Path, rows: Sequence[Record]) -> Path:
    """Plot accuracy against K and, in a panel beside it, against the memory of the target's prompt.

    The second panel has the Pareto front: a line in steps joins the points that no other one beats in both.

    Args:
        path: PNG file to write.
        rows: as `tune_spaces.analysis.compression.compression_rows` returns them; without an interval where `low` and
            `high` are None.

    Returns:
        The path.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator

    figure, left, right = _panels(4.6)
    known = [row for row in rows if row["prompt_kv_bytes"] is not None]
    front = sorted({(row["prompt_kv_bytes"] / 1000, 100 * row["accuracy"]) for row in known if row["efficient"]})
    right.plot(
        [x for x, _ in front], [y for _, y in front], drawstyle="steps-post", color=GREY, linewidth=1.0, zorder=1,
        label="not beaten in both",
    )  # fmt: skip
    for number, (way, meaning) in enumerate(WAYS.items()):
        own = [row for row in rows if row["way"] == way]
        style = {"fmt": MARKERS[number % len(MARKERS)], "color": COLOURS[number % len(COLOURS)], "zorder": 2}
        if own and way == ALONE:
            left.axhline(100 * own[0]["accuracy"], linestyle="--", color=style["color"], linewidth=1.0, label=meaning)
        elif own:
            line = style | {"fmt": f"{style['fmt']}-", "label": meaning}
            _intervals(left, [row["tokens"] for row in own], own, **line)
        held = [row for row in own if row["prompt_kv_bytes"] is not None]
        if held:
            _intervals(right, [row["prompt_kv_bytes"] / 1000 for row in held], held, **style)
            for row in held if way != ALONE else ():
                place = (row["prompt_kv_bytes"] / 1000, 100 * row["accuracy"])
                right.annotate(str(row["tokens"]), place, (4, 4), textcoords="offset points", fontsize=6, color=GREY)
    _by_tokens(left, sorted({row["tokens"] for row in rows if row["tokens"] is not None}))
    left.set_xlabel("K, soft tokens or tokens of text")
    left.set_ylabel("accuracy, % (95 % interval)")
    right.set_xscale("log")
    right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    right.minorticks_off()
    right.set_xlabel("keys and values of the target's prompt, kB a question (numbers: K)")
    for axes in (left, right):
        axes.set_ylim(-3, 103)
    handles = [*left.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    labels = [*left.get_legend_handles_labels()[1], *right.get_legend_handles_labels()[1]]
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside upper center", ncols=3)
    return plots._save(figure, path)
