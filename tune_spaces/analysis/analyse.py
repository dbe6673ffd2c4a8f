"""Compute everything that the appendix says about a set of trials; `tune_spaces.appendix.write` puts it on disk.

Deterministic: equal trials give equal numbers.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from bridge_common.metric_names import CONDITIONS
from tune_spaces.analysis.changed_items import changed_items
from tune_spaces.analysis.claims import Claims, make_claims
from tune_spaces.analysis.clustering import Clusters
from tune_spaces.analysis.compressed_trials import compression
from tune_spaces.analysis.contexts import InBothContexts, in_both_contexts
from tune_spaces.analysis.costs import cost_rows
from tune_spaces.analysis.estimates import Cells
from tune_spaces.analysis.families import MOST_PAIRED
from tune_spaces.analysis.groups import group_rows
from tune_spaces.analysis.noise_floor import NoiseFloor, noise_floor
from tune_spaces.analysis.paired_comparison import PairedComparison
from tune_spaces.analysis.paired_tests import Correction
from tune_spaces.analysis.pairwise import Comparison, Matrix, compare_pairs, matrix_of, summarise
from tune_spaces.analysis.questions import Ask, Asked, answer_questions
from tune_spaces.analysis.scored_trials import ScoredTrial, Trials, matrix
from tune_spaces.analysis.toggle_effects import CONFIRMATORY, Attribution, Kind, attribute
from tune_spaces.analysis.variant_pairs import BASELINE, compare_variants
from tune_spaces.analysis.verdicts import verdict

PRIMARY = (BASELINE, "shuffled_soft")


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What was run beside the plan's variants, in families of its own.

    Attributes:
        names: the controls that ran, in order.
        twins: variants that repeat one of the plan's, or a control, in the other context.
        gains: controls against baselines, which are named in `b`.
        against: the reference against each control.
        contexts: variants that ran in both contexts.
        context_gains: twins against baselines.
        between_contexts: each variant without the prompt against itself with it.
    """

    names: list[str] = field(default_factory=list)
    twins: list[str] = field(default_factory=list)
    gains: list[PairedComparison] = field(default_factory=list)
    against: list[PairedComparison] = field(default_factory=list)
    contexts: list[InBothContexts] = field(default_factory=list)
    context_gains: list[PairedComparison] = field(default_factory=list)
    between_contexts: list[PairedComparison] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Appendix:
    """Everything the appendix says.

    Attributes:
        trials: the trials that it is computed from.
        asked: the plan's questions with their comparisons, corrected as a family of their own.
        outcomes: accuracy by variant and condition, with its interval.
        pairs: variants against one another: those of the plan's questions first, then all others, corrected as one
            family.
        gains: variants against baselines and controls, which are named in `b`.
        attribution: effects of toggles, or None if only the trials' names are known.
        noise_floor: how far replicates differ, or None if no configuration ran twice.
        by_soft_tokens: accuracy by K; empty unless several K ran.
        compression: accuracy at K soft tokens and at K tokens of text; empty unless several K, or text, was measured.
        groups: accuracy by groups of items that tasks name, each variant on its own items.
        costs: cost by variant and condition beside accuracy; empty if no run recorded any.
        changed: items that one of two variants solves, for each pair with the reference.
        claims: sentences on what the data support and what they do not.
        controls: what ran beside the plan's variants; no claim or family above includes it.
    """

    trials: Trials
    asked: list[Asked]
    outcomes: list[dict[str, Any]]
    pairs: list[PairedComparison]
    gains: list[PairedComparison]
    attribution: Attribution | None
    noise_floor: NoiseFloor | None
    by_soft_tokens: list[dict[str, Any]]
    compression: list[dict[str, Any]]
    groups: list[dict[str, Any]]
    costs: list[dict[str, Any]]
    changed: list[dict[str, Any]]
    claims: Claims
    controls: Controls = field(default_factory=Controls)

    @property
    def answers(self) -> list[str]:
        """One sentence for each question of the plan."""
        return [asked.answer() for asked in self.asked]

    def comparison(self) -> Comparison:
        """Return what `appendix --json` prints: runs, pairs and verdicts. Seeds are named if a variant has several."""
        variants = self.trials.variants()
        return Comparison(
            runs={
                trial.variant if len(trials) == 1 else trial.name: summarise(trial.samples)
                for trials in variants.values()
                for trial in trials
            },
            pairs=self.pairs,
            verdict=[verdict(pair) for pair in self.pairs],
        )

    def effects(self) -> list[dict[str, Any]]:
        """Return one row per effect, those not run included, each with the noise floor."""
        if self.attribution is None:
            return []
        floor = None if self.noise_floor is None else self.noise_floor.typical
        return [
            {
                **asdict(effect),
                "toggles": " + ".join(effect.toggles),
                "given": " + ".join(effect.given),
                "status": "estimated" if effect.ran else "not run",
                "noise_floor": floor,
                "shown": effect.shown(self.noise_floor) if effect.ran else None,
            }
            for effect in self.attribution.effects
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the whole appendix, except texts of items, as one JSON object."""
        return {
            **self.comparison().as_json(),
            "reference": self.trials.reference,
            "answers": self.answers,
            "outcomes": self.outcomes,
            "gains": [asdict(gain) for gain in self.gains],
            "controls": asdict(self.controls),
            "effects": self.effects(),
            "noise_floor": None if self.noise_floor is None else asdict(self.noise_floor),
            "by_soft_tokens": self.by_soft_tokens,
            "compression": self.compression,
            "groups": self.groups,
            "costs": self.costs,
            "claims": self.claims.as_json(),
            "not_compared": [trial.name for trial in self.trials.apart],
            "without_samples": self.trials.without_samples,
        }


def _accuracies(
    cells: Sequence[Matrix], clusters: Clusters | None, conditions: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Return accuracy and interval of each cell: Wilson's, at as many independent answers as its runs amount to.

    A cell with one seed has the pooled variance of the seeds of the others, of the same condition if conditions differ.
    """
    if not cells:
        return []
    groups = {} if conditions is None else {str(index): name for index, name in enumerate(conditions)}
    joint = Cells.of({str(index): cell for index, cell in enumerate(cells)}, clusters, groups)
    rows = []
    for name, cell in zip(joint.names, cells, strict=True):
        low, high = joint.accuracy(name)
        rows.append(
            {
                **{"runs": len(cell), "n": joint.items, "clusters": joint.groups},
                **{"accuracy": float(cell.mean()), "low": low, "high": high},
            }
        )
    return rows


def _outcomes(variants: Mapping[str, Sequence[ScoredTrial]], clusters: Clusters | None) -> list[dict[str, Any]]:
    keys = [
        (name, condition)
        for name, trials in variants.items()
        for condition in CONDITIONS
        if all(condition in trial.samples.conditions for trial in trials)
    ]
    accuracies = _accuracies(
        [matrix(variants[name], condition) for name, condition in keys], clusters, [condition for _, condition in keys]
    )
    return [
        {
            "variant": name,
            "condition": condition,
            **accuracy,
            "invalid": sum(trial.samples.conditions[condition].invalid for trial in variants[name]),
        }
        for (name, condition), accuracy in zip(keys, accuracies, strict=True)
    ]


def _gains(
    variants: Mapping[str, Sequence[ScoredTrial]], clusters: Clusters | None, floor: NoiseFloor | None
) -> list[PairedComparison]:
    """Compare bridged with the other conditions of the same runs; the two on which claims rest are one family."""
    gains: list[PairedComparison] = []
    for primary in (True, False):
        cells, wanted = {}, []
        for name, trials in variants.items():
            for condition in CONDITIONS[1:]:
                if (condition in PRIMARY) is primary and all(condition in t.samples.conditions for t in trials):
                    cells[name], cells[f"{name}\n{condition}"] = matrix(trials), matrix(trials, condition)
                    wanted.append((name, f"{name}\n{condition}"))
        groups = {cell: cell.split("\n")[1] for _, cell in wanted}
        pairs = compare_pairs(
            cells, wanted, correction="holm" if primary else "fdr_bh", clusters=clusters, floor=floor, groups=groups
        )
        gains += [replace(pair, b=pair.b.split("\n")[1]) for pair in pairs]
    return gains


def _by_soft_tokens(trials: Trials) -> list[dict[str, Any]]:
    groups = trials.by_soft_tokens()
    if len(groups) < 2:
        return []
    accuracies = _accuracies([matrix(group) for group in groups.values()], trials.clusters())
    rows = []
    for (k, group), accuracy in zip(groups.items(), accuracies, strict=True):
        saved = [trial.kv_saved for trial in group if trial.kv_saved is not None]
        rows.append({"K": k, **accuracy, "saved": float(np.mean(saved)) if saved else None})
    return rows


def analyse(
    trials: Trials,
    toggles: Sequence[str] = (),
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    family: Collection[Kind] = CONFIRMATORY,
    margin: float | None = None,
    asks: Sequence[Ask] = (),
    controls: Collection[str] = (),
    twins: Collection[str] = (),
) -> Appendix:
    """Compute the appendix.

    The plan's questions are a family of their own, corrected by Holm. So are declared pairs. If none were declared, up
    to eight variants are all compared with one another and corrected by Holm; more are a sweep, each compared with the
    reference and corrected by Benjamini-Hochberg.

    Args:
        trials: from `read_trials` or `trials_of_samples`.
        toggles: names of the toggles, in the order of reports; none if only the trials' names are known.
        pairs: variants to compare, as (a, b), if the plan declared them; pairs with a variant that did not run are left
            out.
        family: kinds of effect declared in the plan, corrected together by Holm.
        margin: largest difference that counts as none, if the plan declared one.
        asks: the plan's questions, as (question, a, b): how variant a compares with b, a variant or a condition.
        controls: variants that are controls.
        twins: variants that repeat one of the plan's in the other context.
    """
    every = trials.variants()
    variants = {name: runs for name, runs in every.items() if name not in (*controls, *twins)}
    sweep = pairs is None and len(variants) > MOST_PAIRED
    if pairs is not None:
        wanted = [pair for pair in pairs if set(pair) <= set(variants)]
    elif sweep:
        wanted = [(trials.reference, name) for name in list(variants)[1:]]
    else:
        wanted = list(combinations(variants, 2))
    clusters = trials.clusters()
    attribution = attribute(trials.cells(), toggles, family=family, clusters=clusters) if toggles else None
    floor = attribution.noise_floor if attribution else _floor_of_variants(variants)
    asked = answer_questions(trials, asks, margin=margin, floor=floor)
    of_plan = [one.pair for one in asked if one.pair is not None and one.of_variants]
    known = {frozenset((pair.a, pair.b)) for pair in of_plan}
    others = [pair for pair in wanted if frozenset(pair) not in known]
    correction: Correction = "fdr_bh" if sweep else "holm"
    compared = [*of_plan, *compare_variants(trials, others, correction=correction, margin=margin, floor=floor)]
    gains = _gains(variants, clusters, floor)
    first = variants[trials.reference][0].samples
    outcomes = _outcomes(every, clusters)
    return Appendix(
        trials=trials,
        asked=asked,
        outcomes=outcomes,
        pairs=compared,
        gains=gains,
        attribution=attribution,
        noise_floor=floor,
        by_soft_tokens=_by_soft_tokens(trials),
        compression=compression(trials),
        groups=group_rows(trials),
        costs=cost_rows(every, outcomes),
        changed=[
            row
            for name, group in list(variants.items())[1:]
            for row in changed_items(trials.reference, first, name, group[0].samples)
        ],
        claims=make_claims(compared, gains, attribution, floor),
        controls=_controls(trials, controls, twins, margin, floor),
    )


def _controls(
    trials: Trials,
    controls: Collection[str],
    twins: Collection[str],
    margin: float | None,
    floor: NoiseFloor | None,
) -> Controls:
    variants, clusters = trials.variants(), trials.clusters()
    names = [name for name in variants if name in controls and name != trials.reference]
    repeated = [name for name in variants if name in twins and name != trials.reference]
    both = in_both_contexts(trials)
    return Controls(
        names=names,
        twins=repeated,
        gains=_gains({name: variants[name] for name in names}, clusters, floor),
        against=compare_variants(trials, [(trials.reference, name) for name in names], margin=margin, floor=floor),
        contexts=both,
        context_gains=_gains({name: variants[name] for name in repeated}, clusters, floor),
        between_contexts=compare_variants(
            trials, [(pair.soft_only, pair.reads_prompt) for pair in both], margin=margin, floor=floor
        ),
    )


def _floor_of_variants(variants: Mapping[str, Sequence[ScoredTrial]]) -> NoiseFloor | None:
    return noise_floor([matrix_of([t.samples for t in trials]).mean(axis=1).tolist() for trials in variants.values()])
