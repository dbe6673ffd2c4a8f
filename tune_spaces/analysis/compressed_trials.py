"""The trials of a campaign as measurements at K tokens, for the table and the plots of compression."""

from collections.abc import Sequence
from typing import Any

from bridge_common.metric_names import budget_of, cost
from tune_spaces.analysis.compression import ALONE, QUANTITIES, WAYS, Measured, compression_rows
from tune_spaces.analysis.contexts import CONTEXTS
from tune_spaces.analysis.scored_trials import ScoredTrial, Trials, matrix


def compression(trials: Trials) -> list[dict[str, Any]]:
    """Return the rows of a campaign's trials; empty unless several K, or text at some number of tokens, was measured.

    Soft tokens are those of the trials that differ from the reference in K, seed and context alone.
    """
    measured = []
    for layout in CONTEXTS.values():
        for tokens, group in trials.by_soft_tokens(layout).items():
            measured.append(Measured(way=layout, tokens=tokens, correct=matrix(group), costs=_costs(group, "bridged")))
    texts = _texts(trials.compared)
    if len({one.tokens for one in measured}) < 2 and not texts:
        return []
    alone = [trial for trial in trials.variants()[trials.reference] if ALONE in trial.samples.conditions][:1]
    if alone:
        costs = _costs(trials.compared, ALONE)
        measured.append(Measured(way=ALONE, tokens=None, correct=matrix(alone, ALONE), costs=costs))
    rows = sorted([*measured, *texts], key=lambda one: (list(WAYS).index(one.way), one.tokens or 0))
    return compression_rows(rows, _prompt_tokens(trials.compared), trials.clusters())


def _texts(trials: Sequence[ScoredTrial]) -> list[Measured]:
    """Return text at each number of tokens from the first trial that measured it: it depends on no bridge and seed."""
    first: dict[str, ScoredTrial] = {}
    for trial in trials:
        for name in trial.samples.conditions:
            if budget_of(name):
                first.setdefault(name, trial)
    return [
        Measured(way=way, tokens=tokens, correct=matrix([trial], name), costs=_costs(trials, name))
        for name, trial in first.items()
        for way, tokens in [budget_of(name) or ("", 0)]
    ]


def _costs(trials: Sequence[ScoredTrial], condition: str) -> dict[str, float]:
    means = {}
    for quantity in QUANTITIES:
        values = [
            trial.costs[cost(quantity, condition)] for trial in trials if cost(quantity, condition) in trial.costs
        ]
        if values:
            means[quantity] = sum(values) / len(values)
    return means


def _prompt_tokens(trials: Sequence[ScoredTrial]) -> float | None:
    """Return the mean length of the target's whole prompt, header included; None if no trial recorded it."""
    names = [cost(quantity, ALONE) for quantity in ("prefill_tokens", "cached_tokens")]
    return next((sum(t.costs[name] for name in names) for t in trials if all(name in t.costs for name in names)), None)
