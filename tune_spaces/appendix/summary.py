"""The first screen of the appendix: a table, three sentences, and the answers to the plan's questions."""

from collections.abc import Sequence
from typing import Any

from tune_spaces.analysis.analyse import Appendix
from tune_spaces.analysis.overview import Difference, overview
from tune_spaces.analysis.paired_comparison import GAIN, PairedComparison
from tune_spaces.analysis.verdicts import points
from tune_spaces.appendix.tables import percent, table

MOST_ROWS = 16
MOST_NAMED = 4
"""Most variants in the table, and differences that a sentence names; the sections below have all."""


def summary(appendix: Appendix) -> list[str]:
    """Return the paragraphs that come first: at most two screens of 80 columns, for any number of trials."""
    parts = [_table(appendix), " ".join([_variants(appendix), _gains(appendix), _scope(appendix)])]
    if appendix.asked:
        parts += ["## The plan's questions", "\n".join(f"- {answer}" for answer in appendix.answers)]
    return parts


def _table(appendix: Appendix) -> str:
    """Return one row a variant: accuracy, gain, and difference to the reference."""
    reference, rows = appendix.trials.reference, overview(appendix)
    header = ("variant", "runs", "bridged, %", "gain, points", f"− {reference}, points")
    text = table(
        header,
        (
            (
                row.variant,
                row.runs,
                f"{percent(row.accuracy)} [{percent(row.low)}, {percent(row.high)}]",
                "" if row.gain is None else f"{points(row.gain.estimate)}{' *' if row.gain.shown else ''}",
                "reference" if row.variant == reference else _against(row.difference),
            )
            for row in rows[:MOST_ROWS]
        ),
    )
    return text if len(rows) <= MOST_ROWS else f"{text}\n\nand {len(rows) - MOST_ROWS} more variants below."


def _against(difference: Difference | None) -> str:
    if difference is None:
        return "not compared"
    kind = " in gain" if difference.of_gains else ""
    low, high = points(difference.low), points(difference.high)
    return f"{points(difference.estimate)}{kind} [{low}, {high}]{' *' if difference.shown else ''}"


def _variants(appendix: Appendix) -> str:
    """Say which differences between variants are shown."""
    pairs = appendix.pairs
    if not pairs:
        return "No two variants were compared."
    shown = [pair for pair in pairs if pair.shown]
    if not shown:
        return f"None of {len(pairs)} differences between variants is shown (*)."
    ordered = [pair if pair.difference > 0 else pair.turned() for pair in shown]
    named = _listed(
        f"{pair.a} above {pair.b} by {100 * pair.difference:.1f} points{' in gain' if pair.quantity == GAIN else ''}"
        for pair in ordered
    )
    return f"{len(shown)} of {len(pairs)} differences between variants shown (*): {named}."


def _gains(appendix: Appendix) -> str:
    """Say of which variants a gain, and information of the soft tokens, is shown."""
    parts = []
    for baseline, words in (("target_alone", "the target alone"), ("shuffled_soft", "shuffled soft tokens")):
        own = [gain for gain in appendix.gains if gain.b == baseline]
        if own:
            parts.append(f"over {words} for {_positive(own)}")
    if not parts:
        return "Neither the target alone nor shuffled soft tokens were evaluated."
    return f"A gain is shown {'; '.join(parts)}."


def _positive(gains: Sequence[PairedComparison]) -> str:
    best = sorted((gain for gain in gains if gain.shown), key=lambda gain: -gain.difference)
    more, less = ([g for g in best if (g.difference > 0) is positive] for positive in (True, False))
    text = _named(more) if more else f"none of {len(gains)} variants"
    return f"{text}, and a loss for {_named(less[::-1])}" if less else text


def _named(gains: Sequence[PairedComparison]) -> str:
    return _listed(f"{gain.a} ({points(gain.difference)})" for gain in gains)


def _listed(items: Any) -> str:
    named = list(items)
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return ", ".join(named[:MOST_NAMED]) + more


def _scope(appendix: Appendix) -> str:
    """Say what ran, on how many items and clusters, and how far replicates differ."""
    trials, floor = appendix.trials, appendix.noise_floor
    n = trials.compared[0].samples.n
    clusters = trials.clusters()
    groups = n if clusters is None else len(set(clusters.tolist()))
    grouped = "" if groups == n else f" in {groups} clusters"
    text = f"{len(trials.compared)} runs of {len(trials.variants())} variants on the same {n} items{grouped}; "
    if floor is None:
        return text + "no configuration ran twice, so the noise floor is not known."
    return text + f"two runs of one configuration typically differ by {percent(floor.typical)} points (noise floor)."
