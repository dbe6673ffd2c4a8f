"""The appendix as Markdown: first what the data support and what they do not, then the tables that say why."""

import re
from collections.abc import Sequence
from typing import Any

from tune_spaces.analysis.analyse import Appendix
from tune_spaces.analysis.changed_items import spread
from tune_spaces.analysis.claims import KINDS, effect_name
from tune_spaces.analysis.estimates import NoiseFloor
from tune_spaces.analysis.overview import Difference, overview
from tune_spaces.analysis.pairwise import GAIN, PairedComparison, points
from tune_spaces.analysis.samples import is_valid
from tune_spaces.analysis.toggle_effects import Effect
from tune_spaces.appendix.attention import Shares, attention_section
from tune_spaces.appendix.beside import contexts_section, controls_section
from tune_spaces.appendix.cost_table import cost_table
from tune_spaces.appendix.tables import cell, percent, table

EXCERPT = 600  # characters of a quoted text
CAPTIONS = {
    "effects.png": "Effects of toggles",
    "pairs.png": "Variants against variants",
    "soft_tokens.png": "Accuracy against the number of soft tokens",
    "pareto.png": "Accuracy against FLOPs a question",
    "curves.png": "Training curves",
    "gate.png": "The gate",
    "attention.png": "Entropy of attention weights over training",
}
COSTS = """\
A question's mean, the source's part counted in. *Efficient*: no other row is as accurate with fewer FLOPs, or more
accurate with as many. *Passed* goes from source to target: soft tokens or text. Seconds are a worker's, in the batches
of the evaluation; all else is counted (docs/costs.md)."""
METHODS = """\
Single accuracies have Wilson's interval. Two single runs on the same items have the exact McNemar test and Tango's
score interval of the paired difference with the continuity correction that belongs to that test (Tango 1998); they
compare two trained runs as they are, and say nothing of other seeds. Where a configuration ran under several seeds,
or items come in clusters, interval and p come from Student's t over items, clusters and seeds (Miller 2024); a
configuration with one seed then has the pooled variance of the others' seeds. An interval excludes 0 if and only if
its p is below 0.05. Where source or target differ, gains over the target alone are compared, not accuracies. Declared
comparisons are corrected together by Holm, sweeps by Benjamini-Hochberg. *Detectable* is the smallest true difference
that these items show with 80 % power at the pair's rate of discordance, after the correction's first step. The noise
floor is the largest difference between two runs of one configuration under different seeds. A difference counts as
shown if its corrected p is below 0.05 and, where the noise floor is known, it exceeds it. What the design does not
determine is marked *not run*; nothing is imputed."""


def markdown(
    appendix: Appendix,
    *,
    title: str,
    quoted: int,
    pictures: Sequence[str],
    notes: Sequence[str] = (),
    attention: Shares | None = None,
) -> str:
    """Return the text of appendix.md.

    Args:
        appendix: its content.
        title: its heading.
        quoted: largest number of changed items to quote.
        notes: paragraphs of Markdown that follow the scope.
        attention: entropy of attention weights over training, by kind and variant.
        pictures: names of the picture files in its folder.
    """
    parts = [
        f"# {title}",
        _sentences(appendix.answers, ""),
        _overview(appendix),
        _scope(appendix),
        *notes,
        "## What the data support",
        _sentences(
            appendix.claims.supported,
            "Nothing: no difference between variants, and no gain over the target alone or shuffled soft tokens, "
            "passes its corrected test and the noise floor.",
        ),
        "## What the data do not support",
        _sentences(appendix.claims.not_supported, "Every comparison made was shown."),
        "## Accuracy by variant and condition",
        _outcomes(appendix.outcomes),
    ]
    if appendix.pairs:
        parts += ["## Variants against variants", _pairs(appendix.pairs, appendix.noise_floor)]
    if appendix.gains:
        intro = "*gain* is bridged − target_alone, *information* is bridged − shuffled_soft; the others are controls."
        parts += ["## Baselines and controls", intro, _pairs(appendix.gains, appendix.noise_floor)]
    parts += controls_section(appendix) + contexts_section(appendix)
    if appendix.attribution is not None and appendix.attribution.effects:
        parts += ["## Effects of toggles", *_effects(appendix)]
    if appendix.by_soft_tokens:
        parts += ["## Soft tokens", _soft_tokens(appendix.by_soft_tokens)]
    if appendix.costs:
        parts += ["## Costs", cost_table(appendix.costs), COSTS]
    parts += attention_section(attention or {})
    if pictures:
        parts += ["## Pictures", "\n\n".join(f"![{CAPTIONS[name]}]({name})" for name in pictures)]
    if appendix.pairs:
        parts += ["## Items that changed", *_changed(appendix.changed, quoted)]
    return "\n\n".join([*filter(None, parts), "## Methods", METHODS]) + "\n"


def _sentences(sentences: Sequence[str], otherwise: str) -> str:
    return "\n".join(f"- {' '.join(sentence.split())}" for sentence in sentences) or otherwise


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _scope(appendix: Appendix) -> str:
    trials = appendix.trials
    n = trials.compared[0].samples.n
    lines = [f"{len(trials.compared)} runs of {len(trials.variants())} variants on the same {n} items; reference: "
             f"{trials.reference}."]  # fmt: skip
    floor = appendix.noise_floor
    if floor is None:
        lines.append("No configuration ran twice, so the noise floor is not known.")
    else:
        lines.append(
            f"Noise floor: runs of one configuration differ by up to {percent(floor.largest)} points "
            f"(pairs of replicates: {floor.pairs}; standard deviation of a run: {percent(floor.deviation)} points, "
            f"degrees of freedom: {floor.degrees_of_freedom})."
        )
    if trials.apart:
        lines.append(f"On other items, so not compared: {', '.join(trial.name for trial in trials.apart)}.")
    if trials.without_samples:
        lines.append(f"Without samples: {', '.join(trials.without_samples)}.")
    return " ".join(lines)


def _overview(appendix: Appendix) -> str:
    """Return one row a variant: accuracy, gain, and difference to the reference."""
    reference = appendix.trials.reference
    rows = [
        (
            row.variant,
            row.runs,
            f"{percent(row.accuracy)} [{percent(row.low)}, {percent(row.high)}]",
            "" if row.gain is None else points(row.gain.estimate),
            "reference" if row.variant == reference else _against(row.difference),
        )
        for row in overview(appendix)
    ]
    return table(("variant", "runs", "bridged, %", "gain", f"− {reference}, points"), rows)


def _against(difference: Difference | None) -> str:
    if difference is None:
        return "not compared"
    kind = " in gain" if difference.of_gains else ""
    low, high = points(difference.low), points(difference.high)
    return f"{points(difference.estimate)}{kind} [{low}, {high}]{' *' if difference.shown else ''}"


def _outcomes(rows: Sequence[dict[str, Any]]) -> str:
    return table(
        ("variant", "condition", "runs", "items", "accuracy, %", "95 % interval", "without answer"),
        (
            (r["variant"], r["condition"], r["runs"], r["n"], percent(r["accuracy"]),
             f"[{percent(r['low'])}, {percent(r['high'])}]", r["invalid"])
            for r in rows
        ),
    )  # fmt: skip


def _pairs(pairs: Sequence[PairedComparison], floor: NoiseFloor | None) -> str:
    noise = "not known" if floor is None else percent(floor.largest)
    return table(
        ("a", "b", "a − b, points", "95 % interval", "n10 : n01", "p", "corrected p", "noise floor",
         "detectable, points", "test"),
        (
            (p.a, p.b, points(p.difference), f"[{points(p.ci_low)}, {points(p.ci_high)}]",
             "gains" if p.quantity == GAIN else f"{p.n10} : {p.n01}",
             _p(p.p), _p(p.p_adjusted), noise, "none" if p.detectable is None else f"≥ {percent(p.detectable)}",
             p.test)
            for p in pairs
        ),
    )  # fmt: skip


def _effects(appendix: Appendix) -> list[str]:
    attribution = appendix.attribution
    assert attribution is not None
    parts = []
    if attribution.fixed:
        same = ", ".join(f"{toggle} {'on' if on else 'off'}" for toggle, on in attribution.fixed.items())
        parts.append(f"The same in every run: {same}. The effects below hold for these positions.")
    floor = attribution.noise_floor
    noise = "not known" if floor is None else percent(floor.largest)
    header = ("toggles", "effect, points", "95 % interval", "n10 : n01", "p", "corrected p", "noise floor", "note")
    for kind, words in KINDS.items():
        own = [effect for effect in attribution.effects if effect.kind == kind]
        ran = [effect for effect in own if effect.ran]
        if own:
            parts.append(f"### {kind.replace('_', ' ').capitalize()} ({words})")
        if ran:
            parts.append(table(header, (_effect(effect, floor, noise) for effect in ran)))
            parts.append(f"Corrected by {'Holm' if own[0].correction == 'holm' else 'Benjamini-Hochberg'}.")
        if len(ran) < len(own):
            parts.append(_not_run([effect for effect in own if not effect.ran]))
    ran = [effect for effect in attribution.effects if effect.kind == "shapley" and effect.estimate is not None]
    if ran:
        total = sum(effect.estimate for effect in ran if effect.estimate is not None)
        parts.append(f"The Shapley values sum to {points(total)} points, which is full minus base.")
    return parts


def _not_run(effects: Sequence[Effect]) -> str:
    """Return one line on effects that the design does not determine, by reason."""
    by_reason: dict[str, list[str]] = {}
    for effect in effects:
        by_reason.setdefault(effect.reason, []).append(_short(effect))
    parts = [f"{', '.join(names)} ({reason})" for reason, names in by_reason.items()]
    return f"*not run*: {'; '.join(parts)}."


def _short(effect: Effect) -> str:
    return effect_name(effect) if effect.kind in ("step", "joint") else effect_name(effect).split(" (")[0]


def _effect(effect: Effect, floor: NoiseFloor | None, noise: str) -> tuple[Any, ...]:
    assert effect.estimate is not None
    assert effect.low is not None
    assert effect.high is not None
    counts = "" if effect.n10 is None else f"{effect.n10} : {effect.n01}"
    interval = f"[{points(effect.low)}, {points(effect.high)}]"
    note = ("shown" if effect.shown(floor) else "not shown") + f"; {effect.test}"
    return _short(effect), points(effect.estimate), interval, counts, _p(effect.p), _p(effect.p_adjusted), noise, note


def _soft_tokens(rows: Sequence[dict[str, Any]]) -> str:
    return table(
        ("K", "runs", "accuracy, %", "95 % interval", "KV cache saved, % of the text prompt's"),
        (
            (r["K"], r["runs"], percent(r["accuracy"]), f"[{percent(r['low'])}, {percent(r['high'])}]",
             "not recorded" if r["saved"] is None else percent(r["saved"]))
            for r in rows
        ),
    )  # fmt: skip


def _quote(text: Any) -> str:
    excerpt = str(text).strip()
    if len(excerpt) > EXCERPT:
        excerpt = excerpt[:EXCERPT].rstrip() + " …"
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", excerpt)), default=0))
    return f"{fence}text\n{excerpt}\n{fence}"


def _answer(answer: Any) -> str:
    return cell(answer) if is_valid(answer) else "no answer"


def _changed(rows: Sequence[dict[str, Any]], quoted: int) -> list[str]:
    if not rows:
        return ["No item changed between the reference and another variant."]
    chosen = spread(rows, quoted)
    parts = [f"{len(rows)} items changed between the reference and another variant; {len(chosen)} are quoted here, all "
             "are in changed_items.csv."]  # fmt: skip
    for row in chosen:
        parts.append(
            f"### {cell(row['id'])}: only {cell(row['solved_by'])} solves it ({cell(row['a'])} against "
            f"{cell(row['b'])})\n\nGold: {cell(row['gold'])}; {cell(row['a'])}: {_answer(row['answer_a'])}; "
            f"{cell(row['b'])}: {_answer(row['answer_b'])}."
        )
        texts = (("Question", row["question"]), (row["a"], row["output_a"]), (row["b"], row["output_b"]))
        parts += [f"{cell(name)}:\n\n{_quote(text)}" for name, text in texts if text]
    return parts
