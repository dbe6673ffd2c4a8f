"""What the weights of attention pooling and of cross-attention say, in one sentence a variant."""

from collections.abc import Mapping, Sequence

from tune_spaces.appendix.plots import Curve

METRICS = {"pooling": "pooling/entropy_share", "cross": "cross/entropy_share"}
"""Entropy of the weights as a share of that of equal weights, by kind of attention."""
NAMES = {"pooling": "attention pooling", "cross": "cross-attention"}
Shares = Mapping[str, Mapping[str, Sequence[Curve]]]
"""Steps and shares of every run, by kind of attention and variant."""

ALIKE, FEW = 0.95, 0.5  # shares from which, and below which, a head reads all tokens alike, or few of them
INTRO = (
    "Entropy of the weights as a share of the uniform one: 100 % reads all tokens of the question alike, as the mean "
    "does, 0 % a single token. Curves over training are in attention.png, heat maps in each trial's folder "
    "`diagnostics`; there the scale is fixed, and white is the uniform share."
)
MEANINGS = {
    "pooling": (
        "the condition is hardly more than the mean over all tokens",
        "some tokens count more than others",
        "few tokens make up the condition",
    ),
    "cross": (
        "slots read all tokens nearly alike",
        "slots prefer some tokens",
        "each slot reads few tokens",
    ),
}


def attention_section(shares: Shares) -> list[str]:
    """Return the section on attention weights, empty if no variant has any."""
    sentences = [
        f"- {_sentence(kind, name, runs)}" for kind, by_variant in shares.items() for name, runs in by_variant.items()
    ]
    return ["## Attention", INTRO, "\n".join(sentences)] if sentences else []


def _sentence(kind: str, variant: str, runs: Sequence[Curve]) -> str:
    first, last = (sum(values[at] for _, values in runs) / len(runs) for at in (0, -1))
    alike, some, few = MEANINGS[kind]
    meaning = alike if last >= ALIKE else few if last < FEW else some
    seeds = f", mean of {len(runs)} runs" if len(runs) > 1 else ""
    return (
        f"{variant}, {NAMES[kind]}: {100 * last:.1f} % of uniform entropy at the last evaluation, {100 * first:.1f} % "
        f"at the first{seeds}: {meaning}."
    )
