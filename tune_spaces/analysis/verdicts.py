"""Paired comparisons in words."""

from tune_spaces.analysis.noise_floor import LEVEL
from tune_spaces.analysis.paired_comparison import GAIN, STUDENT, PairedComparison


def points(value: float) -> str:
    """Return a difference of accuracies in percentage points, signed.

    One that would be rounded to zero has a digit more, so that a bound beside zero shows on which side of it it lies.
    """
    if abs(value) < 1e-9:
        return "+0.0"
    text = f"{100 * value:+.1f}"
    return text if float(text) else f"{100 * value:+.1g}"


def p_value(p: float) -> str:
    """Return a p-value to three digits."""
    return below_level(p, f"{p:.3g}", "0.0499")


def below_level(p: float, text: str, below: str) -> str:
    """Return how a p-value is written, unless rounding has brought it from below the level up to it."""
    return below if p < LEVEL <= float(text) else text


def verdict(pair: PairedComparison) -> str:
    """Word a pair in one sentence: what was shown, or that nothing was and what is excluded."""
    family = "of the plan's questions" if pair.asked else "comparisons"
    adjusted = (
        f", {p_value(pair.p_adjusted)} after correction for {pair.comparisons} {family}" if pair.comparisons > 1 else ""
    )
    counts = "" if pair.quantity == GAIN else f"{pair.n10} : {pair.n01} discordant, "
    grouped = "" if pair.clusters == pair.n else f" in {pair.clusters} clusters"
    figures = (
        f"{_level(pair, pair.accuracy_a)} against {_level(pair, pair.accuracy_b)}, difference "
        f"{points(pair.difference)} points, 95 % interval [{points(pair.ci_low)}, {points(pair.ci_high)}], {counts}"
        f"{pair.test} p = {p_value(pair.p)}{adjusted}, n = {pair.n}{grouped}"
    )
    start = f"{pair.a} against {pair.b}"
    if pair.quantity == GAIN:
        start += " (gains over the target alone, since the two answer with other models)"
    if pair.shown:
        better, worse = (pair.a, pair.b) if pair.difference > 0 else (pair.b, pair.a)
        more = "gains more" if pair.quantity == GAIN else "is more accurate"
        return f"{start}: {better} {more} than {worse} on these items ({figures}){but(pair)}."
    if pair.within_floor:
        return f"{start}: no finding ({figures}). It {within(pair.floor)}."
    return f"{start}: no difference was shown ({figures}); {'; '.join(_excluded(pair))}."


def but(pair: PairedComparison) -> str:
    """Say what limits a difference that was shown: the margin, or the room that a target alone leaves for gains."""
    parts = []
    if pair.equivalent and pair.margin is not None:
        parts.append(f"smaller than the declared margin of {100 * pair.margin:.1f} points")
    if room := no_room(pair):
        parts.append(room)
    return f"; {'; '.join(parts)}" if parts else ""


def no_room(pair: PairedComparison) -> str:
    """Say that one of two gains could not have been as large as the other, since its target alone solves too much."""
    for name, room, other in ((pair.a, pair.room_a, pair.accuracy_b), (pair.b, pair.room_b, pair.accuracy_a)):
        if room is not None and room < other:
            return (
                f"{name} could not have gained as much: its target alone solves {100 * (1 - room):.1f} %, which leaves "
                f"room for {100 * room:.1f} points"
            )
    return ""


def _level(pair: PairedComparison, value: float) -> str:
    return f"{points(value)} points" if pair.quantity == GAIN else f"{100 * value:.1f} %"


def _excluded(pair: PairedComparison) -> list[str]:
    """Say what a comparison that showed nothing excludes, and what it would have taken to show something."""
    parts = [f"differences beyond {100 * pair.largest:.1f} points are excluded"]
    if room := no_room(pair):
        parts.append(room)
    if pair.margin is not None:
        margin = f"the declared margin of {100 * pair.margin:.1f} points"
        shown = f"equivalent within {margin}" if pair.equivalent else f"not shown to be equivalent within {margin}"
        parts.append(f"{shown} (two one-sided tests at 5 %, per comparison)")
    if pair.detectable is None:
        parts.append(f"{pair.n} items are too few to show any difference")
        return parts
    rate = "with this spread" if pair.test == STUDENT else "at this rate of discordance"
    parts.append(
        f"{rate}, {pair.n} items could have shown a difference of {100 * pair.detectable:.1f} points or more with "
        "80 % power"
    )
    size = f"one of {100 * abs(pair.difference):.1f} points"
    if pair.items_needed is not None and pair.items_needed > pair.n:
        parts.append(f"{size} would need about {pair.items_needed} items")
    elif pair.items_needed is None and pair.difference != 0:
        seeds = "one seed" if pair.runs == 1 else f"{pair.runs} seeds"
        parts.append(f"{size} is not reachable with {seeds}, whatever the number of items")
    return parts


def within(floor: float | None) -> str:
    """Say that a difference does not exceed the noise floor."""
    return (
        f"does not exceed what two runs of one configuration typically differ by ({100 * (floor or 0.0):.1f} points), "
        "so it is no finding"
    )
