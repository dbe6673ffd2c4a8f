"""Sections on what ran beside the plan's variants: controls, and the two contexts of the field."""

from tune_spaces.analysis.analyse import Appendix
from tune_spaces.analysis.paired_comparison import GAIN, PairedComparison
from tune_spaces.analysis.verdicts import points
from tune_spaces.appendix.tables import difference, percent, table

MEANINGS = {
    "constant": "a learned prompt of the same K without a source, which is what prompt tuning alone gives",
    "random_source": "the same bridge with a source of random weights, which knows the question's tokens and nothing "
    "of their meaning",
}
BASELINES = ("target_alone", "shuffled_soft")


def controls_section(appendix: Appendix) -> list[str]:
    """Return the section on controls, empty if none ran."""
    found, reference = appendix.controls, appendix.trials.reference
    if not found.names:
        return []
    gains = {(gain.a, gain.b): gain for gain in found.gains}
    against = {pair.b: pair for pair in found.against}
    rows = [
        (
            name,
            _accuracy(appendix, name),
            _shown(gains.get((name, "target_alone"))),
            _shown(against.get(name)),
        )
        for name in found.names
    ]
    return [
        "## Controls",
        "Kept apart from the variants: they are in no family, claim or effect above, and corrected by Holm among "
        "themselves. Starred: shown.",
        table(("control", "bridged, %", "gain, points", f"{reference} − control, points"), rows),
        "\n".join(f"- {_sentence(name, gains, against, reference)}" for name in found.names),
    ]


def contexts_section(appendix: Appendix) -> list[str]:
    """Return the section on variants that ran in both contexts, empty if none did."""
    found = appendix.controls
    if not found.contexts:
        return []
    gains = {(gain.a, gain.b): gain for gain in (*appendix.gains, *found.gains, *found.context_gains)}
    between = {pair.a: pair for pair in found.between_contexts}
    rows = []
    for pair in found.contexts:
        for context, name in pair.names().items():
            own = [_shown(gains.get((name, baseline))) for baseline in BASELINES]
            rows.append((pair.reads_prompt, context, _accuracy(appendix, name), *own, _shown(between.get(name))))
    return [
        "## Contexts",
        "The two settings of the field with all else equal: the target reads the prompt besides the soft tokens "
        "(reads_prompt), or only a short instruction (soft_only), where soft tokens must state the problem. In both "
        "the gain is over the target that reads the prompt. Starred: shown.",
        table(
            ("variant", "context", "bridged, %", "gain, points", "information, points", "− reads_prompt, points"), rows
        ),
    ]


def _accuracy(appendix: Appendix, name: str) -> str:
    row = next(r for r in appendix.outcomes if (r["variant"], r["condition"]) == (name, "bridged"))
    return f"{percent(row['accuracy'])} [{percent(row['low'])}, {percent(row['high'])}]"


def _shown(pair: PairedComparison | None) -> str:
    return "" if pair is None else difference(pair) + (" in gain" if pair.quantity == GAIN else "")


def _sentence(
    name: str,
    gains: dict[tuple[str, str], PairedComparison],
    against: dict[str, PairedComparison],
    reference: str,
) -> str:
    """Say what a control is, what it gains, and how much more the reference does."""
    text = f"{name}: {MEANINGS.get(name, 'a control')}"
    if (gain := gains.get((name, "target_alone"))) is not None:
        verb = "gains" if gain.shown else "shows no gain:"
        text += f"; it {verb} {points(gain.difference)} points over the target alone"
    if (pair := against.get(name)) is not None:
        more = "more" if pair.difference > 0 else "less"
        verb = "gains" if pair.quantity == GAIN else "has"
        text += (
            f"; {reference} {verb} {100 * abs(pair.difference):.1f} points {more}{'' if pair.shown else ', not shown'}"
        )
    return f"{text}."
