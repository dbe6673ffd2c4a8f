"""The sections of a card on what the trials show: the appendix' own numbers as tables and charts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bridge_common.metric_names import CONDITIONS
from bridge_common.shown_names import condition_name, group_name
from tune_spaces.analysis.claims import KINDS, effect_name
from tune_spaces.analysis.compression import WAYS
from tune_spaces.analysis.overview import Difference, VariantSummary, overview
from tune_spaces.analysis.toggle_effects import Effect
from tune_spaces.analysis.verdicts import points
from tune_spaces.appendix.cost_table import scaled
from tune_spaces.appendix.from_campaign import CURVE, Analysed, curves
from tune_spaces.appendix.tables import percent
from tune_spaces.appendix.write import MOST_DRAWN
from tune_spaces.card import charts
from tune_spaces.card.bars import Scale, axis, bar
from tune_spaces.card.html import Html, escape, items, join, table, tag
from tune_spaces.design.toggles import OFF, ON, all_toggles

LOSS = "loss/total"
DASH = "–"


def sections(analysed: Analysed) -> list[Html]:
    """Return the sections in their order; those without data are left out."""
    made = [
        _variants(analysed),
        _effects(analysed),
        _soft_tokens(analysed),
        _groups(analysed),
        _controls(analysed),
        _curves(analysed),
        _claims(analysed),
    ]
    return [section for section in made if section]


def section(name: str, title: str, *children: Any) -> Html:
    """Return a section with its heading."""
    return tag("section", tag("h2", title), *children, id=name)


def interval(low: float, high: float, *, signed: bool = False) -> Html:
    """Return an interval in the smaller type that numbers beside an estimate have."""
    write = points if signed else percent
    return tag("span", f"[{write(low)}, {write(high)}]", class_="interval")


def _number(value: str, low: float, high: float, *, signed: bool = False, after: Any = "") -> Html:
    return join([tag("span", value, class_="value"), " ", interval(low, high, signed=signed), after])


def _difference(difference: Difference | None, otherwise: str) -> Html:
    if difference is None:
        return tag("span", otherwise, class_="quiet")
    notes = join([star() if difference.shown else "", " in gain" if difference.of_gains else ""])
    return _number(points(difference.estimate), difference.low, difference.high, signed=True, after=notes)


def star() -> Html:
    """Return the mark of a difference that the corrected test shows."""
    return tag("span", "★", tag("span", " shown", class_="unseen"), class_="star")


def _variants(analysed: Analysed) -> Html:
    appendix = analysed.appendix
    rows = overview(appendix)
    reference = appendix.trials.reference
    scale = Scale.over([end for row in rows for end in (row.low, row.high)])
    toggles = [toggle for toggle in all_toggles() if toggle.field in analysed.toggles]
    seconds = _minutes(analysed)
    flops = {row["variant"]: row["flops"] for row in appendix.costs if row["condition"] == "bridged"}
    costed = any(value is not None for value in flops.values())
    header = ["variant", "bridged, %", axis(scale), "gain, points", f"− {reference}, points"]
    header += [tag("span", toggle.key, class_="key") for toggle in toggles]
    header += [*(["FLOPs a question"] if costed else []), *(["minutes a run"] if seconds else [])]
    on = {trial.variant: trial.on for trial in appendix.trials.compared}
    lines = []
    for row in rows:
        line: list[Any] = [_name(row), _number(percent(row.accuracy), row.low, row.high)]
        line.append(bar(scale, row.accuracy, row.low, row.high))
        line.append(_difference(row.gain, "not measured"))
        line.append(_difference(row.difference, "reference" if row.variant == reference else "not compared"))
        line += [_switch(toggle.field in on[row.variant]) for toggle in toggles]
        line += [scaled(flops.get(row.variant))] if costed else []
        line += [seconds.get(row.variant, DASH)] if seconds else []
        lines.append(line)
    note = "★ shown: by the corrected test, and beyond the noise floor if it is known. Intervals are 95 %."
    note += " Gain is over the target alone."
    note += " A filled circle is a toggle that is on."
    return section(
        "variants", "Variants", table("Variants with toggles and accuracy", header, lines, "variants"), _note(note)
    )


def _name(row: VariantSummary) -> Html:
    return join([row.variant, tag("span", f" {row.runs} seeds", class_="quiet") if row.runs > 1 else ""])


def _switch(on: bool) -> Html:
    return tag("span", "●" if on else "○", tag("span", f" {ON if on else OFF}", class_="unseen"), class_="switch")


def _minutes(analysed: Analysed) -> dict[str, str]:
    if "seconds" not in analysed.table:
        return {}
    means = analysed.table.dropna(subset=["seconds"]).groupby("variant")["seconds"].mean()
    return {str(name): f"{value / 60:.1f}" for name, value in means.items()}


def _note(text: str) -> Html:
    return tag("p", text, class_="note")


def _effects(analysed: Analysed) -> Html:
    attribution = analysed.appendix.attribution
    ran = [] if attribution is None else [effect for effect in attribution.effects if effect.ran][:MOST_DRAWN]
    if attribution is None or not ran:
        return Html("")
    floor = attribution.noise_floor
    typical = None if floor is None else floor.typical
    ends = [end for e in ran for end in (e.low, e.high) if end is not None]
    scale = Scale.over([*ends, 0.0, *([] if typical is None else [-typical, typical])])
    keys = {toggle.field: toggle.key for toggle in all_toggles()}
    parts: list[Any] = []
    for kind, words in KINDS.items():
        lines = []
        for effect in ran:
            if effect.kind != kind or effect.estimate is None or effect.low is None or effect.high is None:
                continue
            shown = effect.shown(floor)
            drawn = bar(scale, effect.estimate, effect.low, effect.high, filled=shown, zero=True, floor=typical)
            name = _effect(effect, keys)
            number = _number(
                points(effect.estimate), effect.low, effect.high, signed=True, after=star() if shown else ""
            )
            counts = DASH if effect.n10 is None else f"{effect.n10} : {effect.n01}"
            lines.append([name, drawn, number, _p(effect.p_adjusted), counts])
        if lines:
            heading = kind.replace("_", " ").capitalize()
            header = ["toggle", axis(scale, signed=True), "effect, points", "corrected p", "items won : lost"]
            title = tag("h3", heading, tag("span", f" {words}", class_="quiet"))
            parts += [title, table(f"{heading}: {words}", header, lines, "effects")]
    note = "Filled marks, with ★: shown after correction and beyond the noise floor. "
    note += "Items won are solved only by the run with the toggle, items lost only by the one without it. "
    if typical is None:
        note += "No configuration ran twice, so the noise floor is not known."
    else:
        note += f"Grey band: two runs of one configuration typically differ by {percent(typical)} points."
    return section("effects", "Effects of toggles", *parts, _note(note))


def _effect(effect: Effect, keys: Mapping[str, str]) -> Html:
    """Return an effect's name: its toggles' keys, as in the table of variants, and the field of a single one."""
    toggles, given = (tuple(keys.get(name, name) for name in own) for own in (effect.toggles, effect.given))
    named = effect_name(replace(effect, toggles=toggles, given=given))
    if effect.kind in ("step", "joint"):
        return escape(named)
    field = effect.toggles[0] if len(effect.toggles) == 1 else ""
    return join([named.split(" (")[0], tag("span", f" {field}", class_="quiet") if field else ""])


def _p(value: float | None) -> str:
    return DASH if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _soft_tokens(analysed: Analysed) -> Html:
    appendix = analysed.appendix
    rows = appendix.by_soft_tokens
    if not rows:
        compressed = _compression(analysed)
        return section("soft-tokens", "Soft tokens", compressed) if compressed else compressed
    alone = next((row["accuracy"] for row in appendix.outcomes if row["condition"] == "target_alone"), None)
    lines = [
        [r["K"], _number(percent(r["accuracy"]), r["low"], r["high"]), r["runs"],
         DASH if r["saved"] is None else f"{100 * r['saved']:.1f} %"]
        for r in rows
    ]  # fmt: skip
    header = ["K", "accuracy, %", "runs", "KV cache saved"]
    numbers = table("Accuracy by number of soft tokens", header, lines)
    drawn = charts.accuracy_by_soft_tokens(rows, alone)
    both = tag("div", drawn, numbers, class_="beside")
    return section("soft-tokens", "Soft tokens", both, _compression(analysed))


def _compression(analysed: Analysed) -> Html:
    """Return accuracy at K tokens by what the target reads, and what of its prompt's memory that saves."""
    rows = analysed.appendix.compression
    if not any(row["prompt_kv_bytes"] is not None for row in rows):
        return Html("")
    lines = [
        [WAYS[r["way"]], DASH if r["tokens"] is None else r["tokens"],
         DASH if r["share"] is None else f"{percent(r['share'])} %",
         _number(percent(r["accuracy"]), r["low"], r["high"]),
         DASH if r["prompt_kv_bytes"] is None else scaled(r["prompt_kv_bytes"], "B"),
         DASH if r["saved_bytes"] is None else scaled(r["saved_bytes"], "B"), "●" if r["efficient"] else ""]
        for r in rows
    ]  # fmt: skip
    title = "Accuracy at K soft tokens, or tokens of text"
    header = ["the target reads", "K", "of the prompt", "accuracy, %", "KV of its prompt", "KV saved", "front"]
    note = "Front: no other row is as accurate with fewer keys and values, or more accurate with as many."
    return join([tag("h3", title), table(title, header, lines), _note(note)])


def _groups(analysed: Analysed) -> Html:
    """Return accuracy by the groups of items that tasks name, each variant on its own items."""
    rows = analysed.appendix.groups
    if not rows:
        return Html("")
    lines = [
        [r["variant"], r["group"], group_name(r["value"], r["group"]), r["n"],
         _known(r["accuracy"], r["low"], r["high"]),
         DASH if r["alone"] is None else percent(r["alone"]), _known(r["gain"], r["gain_low"], r["gain_high"], True)]
        for r in rows
    ]  # fmt: skip
    header = ["variant", "group", "value", "items", "bridged, %", "target alone, %", "gain, points"]
    note = "Each variant on its own items, so variants of another task are here, too. Intervals are not corrected."
    return section("groups", "Groups of items", table("Accuracy by group of items", header, lines), _note(note))


def _known(value: float | None, low: float | None, high: float | None, signed: bool = False) -> Any:
    """Return a share or a difference with its interval, as far as they are known."""
    if value is None:
        return DASH
    text = points(value) if signed else percent(value)
    return text if low is None or high is None else _number(text, low, high, signed=signed)


def _controls(analysed: Analysed) -> Html:
    outcomes = {(row["variant"], row["condition"]): row for row in analysed.appendix.outcomes}
    variants = dict.fromkeys(name for name, _ in outcomes)
    present = [name for name in CONDITIONS if any(condition == name for _, condition in outcomes)]
    if len(present) < 2:
        return Html("")
    lines = [[name, *(_outcome(outcomes.get((name, condition))) for condition in present)] for name in variants]
    text = (
        "Target alone, source alone and the source's answer as text are baselines. Shuffled soft tokens are another "
        "item's, random ones are noise: where they do as well as the bridge, its tokens say nothing of the question."
    )
    header = ["variant", *(condition_name(condition) for condition in present)]
    conditions = table("Accuracy by condition", header, lines)
    return section("controls", "Baselines and controls", _note(text), conditions, _trained_controls(analysed))


def _trained_controls(analysed: Analysed) -> Html:
    """Return the reference against trained controls, and each variant without the prompt against itself with it."""
    own = analysed.appendix.controls
    lines = [
        [f"{p.a} − {p.b}", _difference(Difference.of(p, p.b), ""), _p(p.p_adjusted)]
        for p in (*own.against, *own.between_contexts)
    ]
    if not lines:
        return Html("")
    title = "Trained controls and contexts"
    return join([tag("h3", title), table(title, ["compared", "difference, points", "corrected p"], lines)])


def _outcome(row: dict[str, Any] | None) -> Html:
    if row is None:
        return tag("span", "not run", class_="quiet")
    return _number(percent(row["accuracy"]), row["low"], row["high"])


def _curves(analysed: Analysed) -> Html:
    trials = analysed.appendix.trials
    validation, loss = curves(trials, CURVE), curves(trials, LOSS)
    parts: list[Any] = []
    if validation:
        drawn = charts.panels(validation, "Validation accuracy", percent=True)
        parts += [tag("h3", "Validation accuracy", tag("span", " bridged, by step", class_="quiet")), drawn]
    if loss:
        words = " total, by step; its terms differ between variants"
        parts += [tag("h3", "Training loss", tag("span", words, class_="quiet")), charts.panels(loss, "Training loss")]
    if not parts:
        return Html("")
    drawn_of = max(len(validation), len(loss))
    left = len(trials.variants()) - drawn_of
    more = f" {left} further variants are not drawn." if left > 0 else ""
    return section(
        "curves", "Training", *parts, _note(f"In colour: all seeds of the variant; in grey: the others.{more}")
    )


def _claims(analysed: Analysed) -> Html:
    claims = analysed.appendix.claims
    return section(
        "claims",
        "What the data support",
        items(claims.supported, "claims") or _note("No difference passes its corrected test and the noise floor."),
        _details("What the data do not support", claims.not_supported),
    )


def _details(title: str, sentences: Sequence[str]) -> Html:
    if not sentences:
        return Html("")
    return tag("details", tag("summary", f"{title} ({len(sentences)})"), items(sentences, "claims"))
