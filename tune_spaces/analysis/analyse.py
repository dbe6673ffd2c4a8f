"""Compute everything that the appendix says about a set of trials; `tune_spaces.appendix.write` puts it on disk.

Deterministic: equal trials give equal numbers.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from bridge_common.intervals import wilson
from bridge_common.metric_names import CONDITIONS
from tune_spaces.analysis.bootstrap import NoiseFloor, bootstrap_means, contrast, noise_floor
from tune_spaces.analysis.changed_items import changed_items
from tune_spaces.analysis.claims import Claims, make_claims
from tune_spaces.analysis.pairwise import (
    Comparison,
    Matrix,
    PairedComparison,
    compare_pairs,
    matrix_of,
    summarise,
    verdict,
)
from tune_spaces.analysis.scored_trials import ScoredTrial, Trials, matrix
from tune_spaces.analysis.toggle_effects import CONFIRMATORY, Attribution, Kind, attribute

MOST_PAIRED = 8  # variants; with more, each is compared with the reference alone, as a sweep
PRIMARY = ("target_alone", "shuffled_soft")


@dataclass(frozen=True, kw_only=True)
class Appendix:
    """Everything the appendix says.

    Attributes:
        trials: the trials that it is computed from.
        outcomes: accuracy by variant and condition, with its interval.
        pairs: variants against one another, corrected as one family.
        gains: variants against baselines and controls, which are named in `b`.
        attribution: effects of toggles, or None if only the trials' names are known.
        noise_floor: how far replicates differ, or None if no configuration ran twice.
        by_soft_tokens: accuracy by K; empty unless several K ran.
        changed: items that one of two variants solves, for each pair with the reference.
        claims: sentences on what the data support and what they do not.
    """

    trials: Trials
    outcomes: list[dict[str, Any]]
    pairs: list[PairedComparison]
    gains: list[PairedComparison]
    attribution: Attribution | None
    noise_floor: NoiseFloor | None
    by_soft_tokens: list[dict[str, Any]]
    changed: list[dict[str, Any]]
    claims: Claims

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
            verdict=[verdict(pair, len(self.pairs)) for pair in self.pairs],
        )

    def effects(self) -> list[dict[str, Any]]:
        """Return one row per effect, those not run included, each with the noise floor."""
        if self.attribution is None:
            return []
        floor = None if self.noise_floor is None else self.noise_floor.largest
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
            "outcomes": self.outcomes,
            "gains": [asdict(gain) for gain in self.gains],
            "effects": self.effects(),
            "noise_floor": None if self.noise_floor is None else asdict(self.noise_floor),
            "by_soft_tokens": self.by_soft_tokens,
            "claims": self.claims.as_json(),
            "not_compared": [trial.name for trial in self.trials.apart],
            "without_samples": self.trials.without_samples,
        }


def _accuracies(cells: Sequence[Matrix], draws: int, seed: int) -> list[dict[str, Any]]:
    """Return accuracy and interval of each cell: Wilson's for one run, the joint hierarchical bootstrap for several."""
    means = bootstrap_means(cells, draws=draws, seed=seed) if any(len(cell) > 1 for cell in cells) else None
    rows = []
    for index, cell in enumerate(cells):
        if means is None or len(cell) == 1:
            low, high = wilson(int(cell.sum()), cell.shape[1])
        else:
            estimate = contrast(means, np.eye(len(cells))[index])
            low, high = max(0.0, estimate.low), min(1.0, estimate.high)
        accuracy = float(cell.mean())
        rows.append({"runs": len(cell), "n": cell.shape[1], "accuracy": accuracy, "low": low, "high": high})
    return rows


def _outcomes(variants: Mapping[str, Sequence[ScoredTrial]], draws: int, seed: int) -> list[dict[str, Any]]:
    keys = [
        (name, condition)
        for name, trials in variants.items()
        for condition in CONDITIONS
        if all(condition in trial.samples.conditions for trial in trials)
    ]
    accuracies = _accuracies([matrix(variants[name], condition) for name, condition in keys], draws, seed)
    return [
        {
            "variant": name,
            "condition": condition,
            **accuracy,
            "invalid": sum(trial.samples.conditions[condition].invalid for trial in variants[name]),
        }
        for (name, condition), accuracy in zip(keys, accuracies, strict=True)
    ]


def _gains(variants: Mapping[str, Sequence[ScoredTrial]], draws: int, seed: int) -> list[PairedComparison]:
    """Compare bridged with the other conditions of the same runs; the two on which claims rest are one family."""
    gains: list[PairedComparison] = []
    for primary in (True, False):
        cells, wanted = {}, []
        for name, trials in variants.items():
            for condition in CONDITIONS[1:]:
                if (condition in PRIMARY) is primary and all(condition in t.samples.conditions for t in trials):
                    cells[name], cells[f"{name}\n{condition}"] = matrix(trials), matrix(trials, condition)
                    wanted.append((name, f"{name}\n{condition}"))
        pairs = compare_pairs(cells, wanted, correction="holm" if primary else "fdr_bh", draws=draws, seed=seed)
        gains += [replace(pair, b=pair.b.split("\n")[1]) for pair in pairs]
    return gains


def _by_soft_tokens(trials: Trials, draws: int, seed: int) -> list[dict[str, Any]]:
    groups = trials.by_soft_tokens()
    if len(groups) < 2:
        return []
    accuracies = _accuracies([matrix(group) for group in groups.values()], draws, seed)
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
    draws: int = 4_000,
    seed: int = 0,
) -> Appendix:
    """Compute the appendix.

    Pairs declared in the plan are corrected by Holm. If none were declared, up to eight variants are all compared with
    one another and corrected by Holm; more are a sweep, each compared with the reference and corrected by
    Benjamini-Hochberg.

    Args:
        trials: from `read_trials` or `trials_of_samples`.
        toggles: names of the toggles, in the order of reports; none if only the trials' names are known.
        pairs: variants to compare, as (a, b), if the plan declared them; pairs with a variant that did not run are left
            out.
        family: kinds of effect declared in the plan, corrected together by Holm.
        draws: bootstrap draws.
        seed: seed of those draws.
    """
    variants = trials.variants()
    sweep = pairs is None and len(variants) > MOST_PAIRED
    if pairs is not None:
        wanted = [pair for pair in pairs if set(pair) <= set(variants)]
    elif sweep:
        wanted = [(trials.reference, name) for name in list(variants)[1:]]
    else:
        wanted = list(combinations(variants, 2))
    cells = {name: matrix(group) for name, group in variants.items()}
    compared = compare_pairs(cells, wanted, correction="fdr_bh" if sweep else "holm", draws=draws, seed=seed)
    gains = _gains(variants, draws, seed)
    attribution = attribute(trials.cells(), toggles, family=family, draws=draws, seed=seed) if toggles else None
    floor = attribution.noise_floor if attribution else _floor_of_variants(variants)
    first = variants[trials.reference][0].samples
    return Appendix(
        trials=trials,
        outcomes=_outcomes(variants, draws, seed),
        pairs=compared,
        gains=gains,
        attribution=attribution,
        noise_floor=floor,
        by_soft_tokens=_by_soft_tokens(trials, draws, seed),
        changed=[
            row
            for name, group in list(variants.items())[1:]
            for row in changed_items(trials.reference, first, name, group[0].samples)
        ],
        claims=make_claims(compared, gains, attribution, floor),
    )


def _floor_of_variants(variants: Mapping[str, Sequence[ScoredTrial]]) -> NoiseFloor | None:
    return noise_floor([matrix_of([t.samples for t in trials]).mean(axis=1).tolist() for trials in variants.values()])
