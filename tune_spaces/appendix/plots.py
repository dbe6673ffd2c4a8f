"""Plots of a campaign: plain data in, a PNG file out.

Figures are made without pyplot, so no display, backend setting or other thread can disturb them; matplotlib is
imported where it is used, so that the command line starts without it. Equal data give equal bytes.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from bridge_common.files import write_bytes
from bridge_common.shown_names import condition_name

# Okabe & Ito (2008): distinguishable with every type of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
GREY, BAND = "#6b6b6b", "#e4e4e4"
WIDTH = 8.0  # inches
Record = Mapping[str, Any]
Curve = tuple[Sequence[float], Sequence[float]]


def _axes(height: float, width: float = WIDTH) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path) -> Path:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_bytes(path, buffer.getvalue())
    return Path(path)


def forest(path: Path, rows: Sequence[Record], *, noise_floor: float | None = None, title: str = "") -> Path:
    """Plot effects with their intervals, one line each, over the band by which replicates differ.

    Args:
        path: PNG file to write.
        rows: `label`, `estimate`, `low`, `high` as fractions (None if not run), and `shown`, whether the effect passed
            its corrected test; the marks of effects that did are filled.
        noise_floor: typical difference of two replicates, as a fraction.
        title: heading.

    Returns:
        The path.
    """
    longest = max((len(row["label"]) for row in rows), default=0)
    figure, axes = _axes(1.4 + 0.34 * max(1, len(rows)), 5.5 + 0.08 * longest)
    if noise_floor is not None:
        axes.axvspan(-100 * noise_floor, 100 * noise_floor, color=BAND, zorder=0)
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    for line, row in enumerate(rows):
        if row["estimate"] is None:
            axes.annotate("not run", (0, line), color=GREY, style="italic", ha="center", va="center", fontsize=9,
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
            continue
        shown = bool(row.get("shown"))
        colour = COLOURS[0] if shown else GREY
        axes.plot([100 * row["low"], 100 * row["high"]], [line, line], color=colour, linewidth=1.6, zorder=2)
        axes.plot(
            100 * row["estimate"], line, "o", color=colour, markerfacecolor=colour if shown else "white", zorder=3
        )
    axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    if not any(row["estimate"] is not None for row in rows):
        axes.set_xlim(-5, 5)
    axes.set_xlabel("effect on accuracy, percentage points, with 95 % interval\nfilled: shown after correction")
    axes.set_title(title + ("" if noise_floor is None else "\ngrey band: what replicates differ by"), fontsize=10)
    return _save(figure, path)


def pareto(path: Path, rows: Sequence[Record]) -> Path:
    """Plot accuracy against FLOPs a question: a series for each condition, a point for each variant.

    A line in steps joins the points that no other one beats in both. Points that coincide, such as a baseline that
    variants share, are drawn once.

    Args:
        path: PNG file to write.
        rows: `variant`, `condition`, `flops` of a question, `accuracy`, `low` and `high` as fractions, `efficient`,
            and `setting`: each has a front of its own.

    Returns:
        The path.
    """
    figure, axes = _axes(5.0)
    seen: set[tuple[Any, ...]] = set()
    shown = []
    for row in rows:
        place = (row.get("setting"), row["condition"], row["flops"], row["accuracy"])
        if place not in seen:
            seen.add(place)
            shown.append(row)
    # One front for each source, target and task: accuracies of others have no common scale.
    for setting in dict.fromkeys(row.get("setting") for row in shown):
        own = [row for row in shown if row.get("setting") == setting and row["efficient"]]
        front = sorted((row["flops"], 100 * row["accuracy"]) for row in own)
        steps, heights = [x for x, _ in front], [y for _, y in front]
        label = "not beaten in both" if setting == shown[0].get("setting") else None
        axes.plot(steps, heights, drawstyle="steps-post", color=GREY, linewidth=1.0, zorder=1, label=label)
    for number, condition in enumerate(dict.fromkeys(row["condition"] for row in shown)):
        own = [row for row in shown if row["condition"] == condition]
        values = [100 * row["accuracy"] for row in own]
        below = [100 * (row["accuracy"] - row["low"]) for row in own]
        above = [100 * (row["high"] - row["accuracy"]) for row in own]
        axes.errorbar(
            [row["flops"] for row in own], values, yerr=[below, above], fmt=MARKERS[number % len(MARKERS)], capsize=2,
            color=COLOURS[number % len(COLOURS)], linewidth=1.0, label=condition_name(condition), zorder=2,
        )  # fmt: skip
        for row, value in zip(own, values, strict=True):
            if len({r["variant"] for r in shown}) > 1 and row["condition"] == "bridged":
                axes.annotate(row["variant"], (row["flops"], value), (4, 4), textcoords="offset points", fontsize=7)
    axes.set_xscale("log")
    flops = [row["flops"] for row in shown]
    axes.set_xlim(min(flops) / 1.5, max(flops) * 1.5)
    low, high = min(row["low"] for row in shown), max(row["high"] for row in shown)
    axes.set_ylim(max(0.0, 100 * low - 5), min(102.0, 100 * high + 5))
    axes.set_xlabel("FLOPs a question, the source's counted in")
    axes.set_ylabel("accuracy, % (95 % interval)")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _save(figure, path)


def training_curves(path: Path, curves: Mapping[str, Sequence[Curve]], *, value: str) -> Path:
    """Plot one curve per run, those of a variant in one colour.

    Args:
        path: PNG file to write.
        curves: steps and values of equal length, of each run, by variant.
        value: name of the values, for the axis.

    Returns:
        The path.
    """
    figure, axes = _axes(4.4)
    for index, (name, runs) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        style = STYLES[index // len(COLOURS) % len(STYLES)]
        for number, (steps, values) in enumerate(runs):
            label = name if number == 0 else f"_{name}"  # one entry a variant
            axes.plot(steps, values, linestyle=style, color=colour, linewidth=1.3, label=label)
    axes.set_xlabel("step")
    axes.set_ylabel(value)
    if curves:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _save(figure, path)


def entropy_curves(path: Path, curves: Mapping[str, Sequence[Curve]]) -> Path:
    """Plot the entropy of attention weights over training, as a share of that of equal weights.

    Args:
        path: PNG file to write.
        curves: steps and shares of each run, by what is shown.

    Returns:
        The path.
    """
    figure, axes = _axes(4.0)
    axes.axhline(100, linestyle="--", color=GREY, linewidth=1, label="uniform: all tokens alike")
    for index, (name, runs) in enumerate(curves.items()):
        for number, (steps, values) in enumerate(runs):
            label = name if number == 0 else f"_{name}"  # one entry for all runs
            shares = [100 * value for value in values]
            axes.plot(steps, shares, "o-", markersize=3, color=COLOURS[index % len(COLOURS)], label=label)
    axes.set_ylim(0, 105)
    axes.set_xlabel("step")
    axes.set_ylabel("entropy, % of the uniform one")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _save(figure, path)


def gate(path: Path, points: Sequence[Record], *, passes: float, attribute: float, decision: str) -> Path:
    """Plot runs against the boundaries of the gate.

    Args:
        path: PNG file to write.
        points: `label`, `accuracy`, `low`, `high` as fractions; the first is the run on which the gate decided.
        passes: accuracy from which the phase has passed.
        attribute: accuracy from which fewer ablations are enough.
        decision: what was decided, for the title.

    Returns:
        The path.
    """
    figure, axes = _axes(1.8 + 0.4 * max(1, len(points)))
    low = min([attribute, *(row["low"] for row in points)])
    high = max([passes, *(row["high"] for row in points)])
    low, high = low - 0.2 * (high - low), high + 0.2 * (high - low)  # room for the names of the outer bands
    for start, end, colour, name in (
        (low, attribute, "#f7e1d3", f"below {100 * attribute:g} %"),
        (attribute, passes, "#fdf3d0", f"{100 * attribute:g} to {100 * passes:g} %"),
        (passes, high, "#d9eede", f"{100 * passes:g} %: passed"),
    ):
        axes.axvspan(100 * start, 100 * end, color=colour, zorder=0)
        axes.text(50 * (start + end), -0.75, name, ha="center", va="center", fontsize=8, color=GREY)
    for line, row in enumerate(points):
        colour = COLOURS[0] if line == 0 else GREY
        axes.plot([100 * row["low"], 100 * row["high"]], [line, line], color=colour, linewidth=2)
        axes.plot(100 * row["accuracy"], line, "o", color=colour)
    axes.set_yticks(range(len(points)), [row["label"] for row in points])
    axes.set_ylim(len(points) - 0.4, -1.1)
    axes.set_xlim(100 * low, 100 * high)
    axes.set_xlabel("bridged accuracy, % (95 % interval)")
    axes.set_title(decision, fontsize=10)
    return _save(figure, path)
