"""The sentences of the appendix: one for each claim that the data support, and one for each that they do not."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bridge_common.shown_names import condition_name
from tune_spaces.analysis.noise_floor import NoiseFloor
from tune_spaces.analysis.paired_comparison import PairedComparison
from tune_spaces.analysis.toggle_effects import Attribution, Effect
from tune_spaces.analysis.verdicts import p_value, points, verdict, within

KINDS = {
    "leave_one_out": "full against full without it",
    "add_one_in": "base with it against base",
    "step": "between neighbouring configurations",
    "joint": "several at once",
    "interaction_at_full": "interaction next to full",
    "interaction_at_base": "interaction next to base",
    "shapley": "mean over all orders of switching on",
}
MAIN = ("leave_one_out", "add_one_in", "step", "shapley")
BASELINES = {
    "target_alone": "the bridge adds to what the target does alone",
    "shuffled_soft": "the soft tokens carry information about their own question",
}


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Sentences that the data support, and those that they do not."""

    supported: list[str] = field(default_factory=list)
    not_supported: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, list[str]]:
        """Return both lists under the names that `appendix.json` has for them."""
        return {"carried": self.supported, "not_carried": self.not_supported}


def effect_name(effect: Effect) -> str:
    """Return an effect's toggles and kind in words."""
    join = " × " if effect.kind.startswith("interaction") else " + "
    given = f", given {' + '.join(effect.given)}" if effect.kind in ("step", "joint") and effect.given else ""
    return f"{join.join(effect.toggles)} ({KINDS[effect.kind]}{given})"


def make_claims(
    pairs: Sequence[PairedComparison],
    gains: Sequence[PairedComparison],
    attribution: Attribution | None,
    floor: NoiseFloor | None,
) -> Claims:
    """Word every claim that a reader might make of the campaign, sorted by whether its data support it.

    A difference is supported if its corrected test shows it and it exceeds the difference between replicates.

    Args:
        pairs: comparisons of variants.
        gains: comparisons of a variant with a baseline or control, which is named in `b`.
        attribution: effects of toggles, or None if only names are known.
        floor: the noise floor, or None if no configuration ran twice.
    """
    claims = Claims()
    for pair in pairs:
        (claims.supported if pair.shown else claims.not_supported).append(verdict(pair))
    for gain in gains:
        if gain.b in BASELINES:
            _sort_gain(claims, gain)
    if attribution is not None:
        for effect in attribution.effects:
            if effect.ran:
                _sort_effect(claims, effect, floor)
        claims.not_supported.extend(_not_estimated(attribution))
    if floor is None:
        claims.not_supported.append(
            "No configuration ran twice, so the noise floor is not known: differences above hold between the trained "
            "runs, and that another seed would give them is not shown."
        )
    return claims


def _not_estimated(attribution: Attribution) -> list[str]:
    """Return one sentence on the toggles of which no effect was run; none if there is no such toggle."""
    missing: dict[str, list[str]] = {}
    for toggle in dict.fromkeys(t for effect in attribution.effects for t in effect.toggles):
        own = [e for e in attribution.effects if e.toggles == (toggle,) and e.kind in MAIN]
        if not any(effect.ran for effect in own):
            reasons = "; ".join(dict.fromkeys(effect.reason.removeprefix(f"{toggle} is ") for effect in own))
            missing.setdefault(reasons, []).append(toggle)
    named = "; ".join(f"{', '.join(toggles)} ({reason})" for reason, toggles in missing.items())
    return [f"Not run, so no effect can be estimated: {named}."] if missing else []


def _sort_gain(claims: Claims, gain: PairedComparison) -> None:
    what = BASELINES[gain.b]
    grouped = "" if gain.clusters == gain.n else f" in {gain.clusters} clusters"
    figures = (
        f"{points(gain.difference)} points over {condition_name(gain.b)}, 95 % interval [{points(gain.ci_low)}, "
        f"{points(gain.ci_high)}], {gain.n10} : {gain.n01} discordant, {gain.test} p = {p_value(gain.p)}, "
        f"corrected {p_value(gain.p_adjusted)}, n = {gain.n}{grouped}"
    )
    if gain.within_floor:
        claims.not_supported.append(f"{gain.a}: that {what} was not shown ({figures}); it {within(gain.floor)}.")
    elif gain.shown and gain.difference > 0:
        claims.supported.append(f"{gain.a}: {what} ({figures}).")
    elif gain.shown:
        claims.not_supported.append(f"{gain.a}: that {what} is contradicted ({figures}).")
    else:
        claims.not_supported.append(f"{gain.a}: that {what} was not shown ({figures}).")


def _sort_effect(claims: Claims, effect: Effect, floor: NoiseFloor | None) -> None:
    if effect.estimate is None or effect.low is None or effect.high is None or effect.p is None:
        return
    assert effect.p_adjusted is not None
    counts = "" if effect.n10 is None else f"{effect.n10} : {effect.n01} discordant, "
    known = "noise floor not known" if floor is None else f"noise floor {100 * floor.typical:.1f} points"
    figures = (
        f"{points(effect.estimate)} points, 95 % interval [{points(effect.low)}, {points(effect.high)}], {counts}"
        f"{effect.test} p = {p_value(effect.p)}, corrected {p_value(effect.p_adjusted)}, {known}, "
        f"{'over other seeds, too' if effect.with_seeds else 'between the trained runs'}"
    )
    name = effect_name(effect)
    if effect.shown(floor):
        claims.supported.append(f"{name}: {'raises' if effect.estimate > 0 else 'lowers'} accuracy ({figures}).")
    elif effect.shown(None) and floor is not None:
        claims.not_supported.append(f"{name}: the effect {within(floor.typical)} ({figures}).")
    else:
        claims.not_supported.append(f"{name}: no effect was shown ({figures}).")
