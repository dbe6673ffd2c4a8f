"""The appendix as Markdown: first what the data support and what they do not, then the tables that say why."""

import re
from collections.abc import Sequence
from typing import Any

from bridge_common.metric_names import CONDITIONS
from bridge_common.shown_names import condition_name
from bridge_common.visible_text import visible
from tune_spaces.analysis.analyse import Appendix
from tune_spaces.analysis.changed_items import spread
from tune_spaces.analysis.claims import KINDS, effect_name
from tune_spaces.analysis.noise_floor import NoiseFloor
from tune_spaces.analysis.paired_comparison import GAIN, PairedComparison
from tune_spaces.analysis.samples import is_valid
from tune_spaces.analysis.toggle_effects import Effect
from tune_spaces.analysis.verdicts import points
from tune_spaces.appendix.attention import Shares, attention_section
from tune_spaces.appendix.beside import contexts_section, controls_section
from tune_spaces.appendix.compression_table import COMPRESSION, compression_table
from tune_spaces.appendix.cost_table import cost_table
from tune_spaces.appendix.group_table import GROUPS, group_table
from tune_spaces.appendix.summary import summary
from tune_spaces.appendix.tables import cell, clusters, p_in_table, percent, table

EXCERPT = 600  # characters of a quoted text
CAPTIONS = {
    "effects.png": "Effects of toggles",
    "pairs.png": "Variants against variants",
    "soft_tokens.png": "Accuracy against the number of soft tokens",
    "compression.png": "Accuracy at K tokens, and against the memory of the target's prompt",
    "pareto.png": "Accuracy against FLOPs a question",
    "curves.png": "Training curves",
    "gate.png": "The gate",
    "attention.png": "Entropy of attention weights over training",
}
COSTS = """\
A question's mean, the source's part counted in. *Efficient*: no other row of the same source, target and task is as
accurate with fewer FLOPs, or more accurate with as many. *Passed* goes from source to target: soft tokens or text.
Seconds are a worker's, in the batches of the evaluation; all else is counted (docs/costs.md)."""
METHODS = """\
Single accuracies have Wilson's interval; with several seeds or clusters at the number of independent items that
have the same variance, with Student's t. Two single runs on the same items have the exact McNemar test and Tango's
score interval of the paired difference with the continuity correction that belongs to that test (Tango 1998); they
compare two trained runs as they are, and say nothing of other seeds; so do single runs on items in clusters. Where
one of those compared ran under several seeds, or items come in clusters, interval and p come from Student's t over
items, clusters and seeds (Miller 2024), with few clusters by CR2 and Satterthwaite's degrees of freedom; a
configuration with one seed beside one with several has the pooled variance of the others' seeds. Two seeds are too
few to know how much seeds differ: where they do, accuracies over two are covered in 91 % instead of 95. An interval
excludes 0 if and only if its p is below 0.05. Where source or target differ, gains over the target alone are
compared, not accuracies. The plan's questions are corrected together by
Holm, the other comparisons together by Holm, sweeps by Benjamini-Hochberg; *of* is the number corrected together.
Equivalence is tested per comparison, uncorrected. *Detectable* is the smallest true difference that these items
show with 80 % power at the pair's rate of discordance or spread, at the correction's first step. The noise floor is
the typical difference (root mean square) between two runs of one configuration under different seeds. A difference
counts as shown (*) if its corrected p is below 0.05 and, where the noise floor is known, it exceeds it. What the
design does not determine is marked *not run*; nothing is imputed."""


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
        *summary(appendix),
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
        _scope(appendix),
        _outcomes(appendix.outcomes),
    ]
    if appendix.pairs:
        parts += ["## Variants against variants", _pairs(appendix.pairs, appendix.noise_floor)]
    if appendix.gains:
        intro = "*gain* is bridged − target alone, *information* is bridged − shuffled soft; the others are controls."
        parts += ["## Baselines and controls", intro, _pairs(appendix.gains, appendix.noise_floor)]
    parts += controls_section(appendix) + contexts_section(appendix)
    if appendix.attribution is not None and appendix.attribution.effects:
        parts += ["## Effects of toggles", *_effects(appendix)]
    if appendix.by_soft_tokens:
        parts += ["## Soft tokens", _soft_tokens(appendix.by_soft_tokens)]
    if appendix.groups:
        parts += ["## Accuracy by group", GROUPS, group_table(appendix.groups)]
    if appendix.compression:
        parts += ["## Compression", compression_table(appendix.compression), COMPRESSION]
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


def _scope(appendix: Appendix) -> str:
    """Return what was compared with what, what was left out, and how well the noise floor is known."""
    trials, floor = appendix.trials, appendix.noise_floor
    lines = [f"The reference is {trials.reference}."]
    if floor is not None:
        most = f", at most by {percent(floor.largest)}" if floor.pairs > 1 else ""
        lines.append(
            f"Noise floor: two runs of one configuration typically differ by {percent(floor.typical)} points{most} "
            f"(pairs of replicates: {floor.pairs}; standard deviation of a run: {percent(floor.deviation)} points, "
            f"degrees of freedom: {floor.degrees_of_freedom})."
        )
    if trials.apart:
        lines.append(f"On other items, so not compared: {', '.join(trial.name for trial in trials.apart)}.")
    if trials.without_samples:
        lines.append(f"Without samples: {', '.join(trials.without_samples)}.")
    return " ".join(lines)


def _outcomes(rows: Sequence[dict[str, Any]]) -> str:
    return table(
        ("variant", "condition", "runs", "items", "clusters", "accuracy, %", "95 % interval", "without answer"),
        (
            (r["variant"], condition_name(r["condition"]), r["runs"], r["n"], clusters(r["clusters"], r["n"]),
             percent(r["accuracy"]), f"[{percent(r['low'])}, {percent(r['high'])}]", r["invalid"])
            for r in rows
        ),
    )  # fmt: skip


def _pairs(pairs: Sequence[PairedComparison], floor: NoiseFloor | None) -> str:
    noise = "not known" if floor is None else percent(floor.typical)
    return table(
        ("a", "b", "a − b, points", "95 % interval", "n10 : n01", "n", "clusters", "p", "corrected p", "of",
         "noise floor, points", "detectable, points", "test"),
        (
            (p.a, _named(p.b), points(p.difference), f"[{points(p.ci_low)}, {points(p.ci_high)}]",
             "gains" if p.quantity == GAIN else f"{p.n10} : {p.n01}",
             p.n, clusters(p.clusters, p.n), p_in_table(p.p), p_in_table(p.p_adjusted), p.comparisons, noise,
             "none" if p.detectable is None else f"≥ {percent(p.detectable)}", p.test)
            for p in pairs
        ),
    )  # fmt: skip


def _named(other: str) -> str:
    """Return the name of what a variant is compared with: another variant, or a condition of its own."""
    return condition_name(other) if other in CONDITIONS else other


def _effects(appendix: Appendix) -> list[str]:
    attribution = appendix.attribution
    assert attribution is not None
    parts = []
    if attribution.fixed:
        same = ", ".join(f"{toggle} {'on' if on else 'off'}" for toggle, on in attribution.fixed.items())
        parts.append(f"The same in every run: {same}. The effects below hold for these positions.")
    floor = attribution.noise_floor
    noise = "not known" if floor is None else percent(floor.typical)
    header = (
        "toggles",
        "effect, points",
        "95 % interval",
        "n10 : n01",
        "p",
        "corrected p",
        "noise floor, points",
        "note",
    )
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
    return (
        _short(effect),
        points(effect.estimate),
        interval,
        counts,
        p_in_table(effect.p),
        p_in_table(effect.p_adjusted),
        noise,
        note,
    )


def _soft_tokens(rows: Sequence[dict[str, Any]]) -> str:
    return table(
        ("K", "runs", "items", "clusters", "accuracy, %", "95 % interval", "KV cache saved, % of the text prompt's"),
        (
            (r["K"], r["runs"], r["n"], clusters(r["clusters"], r["n"]), percent(r["accuracy"]),
             f"[{percent(r['low'])}, {percent(r['high'])}]",
             "not recorded" if r["saved"] is None else percent(r["saved"]))
            for r in rows
        ),
    )  # fmt: skip


def _quote(text: Any) -> str:
    excerpt = visible(str(text).strip())
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
