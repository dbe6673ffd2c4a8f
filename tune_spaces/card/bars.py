"""Intervals drawn by CSS: they need no script, follow the page's width, and print.

A scale goes from `low` to `high`, as fractions; places are percentages of its width.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tune_spaces.card.html import Html, tag

_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5)
MOST_TICKS = 6


@dataclass(frozen=True)
class Scale:
    """An axis of accuracies or differences.

    Attributes:
        low: its left end.
        high: its right end.
        step: distance of its ticks.
    """

    low: float
    high: float
    step: float

    @classmethod
    def over(cls, values: Iterable[float]) -> "Scale":
        """Return the smallest scale between ticks that holds all values."""
        known = list(values) or [0.0, 1.0]
        low, high = min(known), max(known)
        step = next((s for s in _STEPS if (high - low) / s <= MOST_TICKS - 1), 1.0)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        return cls(first * step, max(last, first + 1) * step, step)

    def place(self, value: float) -> float:
        """Return where a value lies, in percent of the width."""
        return min(100.0, max(0.0, 100 * (value - self.low) / (self.high - self.low)))

    def ticks(self) -> list[float]:
        """Return the values of the ticks."""
        count = round((self.high - self.low) / self.step)
        return [self.low + number * self.step for number in range(count + 1)]


def bar(
    scale: Scale,
    estimate: float,
    low: float,
    high: float,
    *,
    filled: bool = True,
    zero: bool = False,
    floor: float | None = None,
) -> Html:
    """Return an interval with its estimate; the numbers beside it say the same, so readers aloud pass it over.

    Args:
        scale: the axis.
        estimate: the estimate.
        low: lower end of the interval.
        high: upper end of the interval.
        filled: whether the mark is filled, for an effect that was shown.
        zero: draw a line at 0.
        floor: half width of a grey band around 0.
    """
    parts = []
    if floor is not None:
        parts.append(_span("floor", scale.place(-floor), scale.place(floor)))
    if zero:
        parts.append(_at("zero", scale.place(0.0)))
    parts += [_span("line", scale.place(low), scale.place(high)), _at("dot", scale.place(estimate))]
    return tag("span", *parts, class_="bar" if filled else "bar open", aria_hidden="true")


def axis(scale: Scale, *, signed: bool = False) -> Html:
    """Return the scale's ticks with their values in percent, or in points if signed."""
    ticks = [
        tag("span", f"{100 * t:+.0f}" if signed and abs(t) > 1e-9 else f"{abs(100 * t):.0f}", style=_left(scale, t))
        for t in scale.ticks()
    ]
    return tag("span", *ticks, class_="axis", aria_hidden="true")


def gate_band(accuracy: float, low: float, high: float, attribute: float, passes: float) -> Html:
    """Return the gate's three bands with the interval of the run on which it decided."""
    scale = Scale.over([low, high, attribute - 0.02, passes + 0.02])
    edges = ((scale.low, attribute, "below"), (attribute, passes, "between"), (passes, scale.high, "passed"))
    names = {
        "below": f"below {100 * attribute:g} %",
        "between": f"{100 * attribute:g} to {100 * passes:g} %",
        "passed": f"passed, {100 * passes:g} %",
    }
    bands = [
        tag("span", tag("span", names[name]), class_=f"band {name}", style=_from_to(scale.place(a), scale.place(b)))
        for a, b, name in edges
        if b > a
    ]
    interval = [_span("line", scale.place(low), scale.place(high)), _at("dot", scale.place(accuracy))]
    label = f"{accuracy:.1%}, 95 % interval {low:.1%} to {high:.1%}; passes from {passes:.0%}"
    picture = tag("div", *bands, *interval, class_="gate", role="img", aria_label=label)
    return tag("div", picture, axis(scale), class_="gate-frame")


def _span(name: str, left: float, right: float) -> Html:
    return tag("span", class_=name, style=_from_to(left, right))


def _at(name: str, left: float) -> Html:
    return tag("span", class_=name, style=f"left:{left:.2f}%")


def _from_to(left: float, right: float) -> str:
    return f"left:{left:.2f}%;width:{right - left:.2f}%"


def _left(scale: Scale, value: float) -> str:
    return f"left:{scale.place(value):.2f}%"
