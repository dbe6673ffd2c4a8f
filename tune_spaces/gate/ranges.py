"""The branches of the gate in words: each as the range of accuracy from which it follows."""

from collections.abc import Mapping

RANGES = {
    "pass": "{passes:.0%} or more",
    "attribute": "{attribute:.0%} to below {passes:.0%}",
    "attribute_all": "below {attribute:.0%}",
}
"""The range of each branch, to be formatted with the gate's boundaries."""


def chances_in_words(probabilities: Mapping[str, float], *, passes: float, attribute: float) -> str:
    """Return how probable each range of accuracy is, as `86% for 70% or more, 14% for below 70%`.

    Args:
        probabilities: by branch, as a decision records them.
        passes: the gate's upper boundary.
        attribute: its lower boundary.
    """
    ranges = {name: text.format(passes=passes, attribute=attribute) for name, text in RANGES.items()}
    return ", ".join(f"{chance:.0%} for {ranges[name]}" for name, chance in probabilities.items())
