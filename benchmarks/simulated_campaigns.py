"""Simulate campaigns whose true accuracies are known, and count how often the appendix is wrong.

    python -m benchmarks.simulated_campaigns [--campaigns 5000] [--processes 2]

Items differ in difficulty and are shared by all variants and seeds; in some scenarios they come in clusters of related
questions, in which a variant's effect differs, and seeds of one variant differ. Reported are the family-wise error
(some difference shown where there is none), the coverage of 95 % intervals, and the power at the difference that
the plan promises to show in 80 % of cases. By default scenarios are simulated side by side, a process for each core.
"""

import argparse
import gc
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from itertools import repeat
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import environment, save
from tune_spaces.analysis.paired_tests import minimum_detectable_effect
from tune_spaces.analysis.pairwise import compare_pairs

ITEMS = 1319
DISCORDANCES = (0.08, 0.12, 0.2, 0.3)
PAIRS = (("full", "C"), ("full", "B"), ("C", "B"))


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """How the answers of a simulated campaign are drawn.

    Attributes:
        seeds: of every variant.
        effect: points by which `full` exceeds C and B, before probabilities are cut at 0 and 1.
        seed_spread: standard deviation of a seed's accuracy around its variant's.
        full_alone: whether only the seeds of `full` differ by that.
        clusters: groups of related items; 0 makes all items independent.
        cluster_spread: standard deviation, over clusters, of a variant's effect.
    """

    seeds: int = 3
    effect: float = 0.0
    seed_spread: float = 0.0
    full_alone: bool = False
    clusters: int = 0
    cluster_spread: float = 0.0


SCENARIOS = (
    Scenario(seeds=1),
    Scenario(seeds=1, effect=0.03),
    *(Scenario(effect=effect, seed_spread=spread) for effect in (0.0, 0.03) for spread in (0.0, 0.005, 0.01, 0.02)),
    *(Scenario(seed_spread=spread, full_alone=True) for spread in (0.01, 0.02)),
    *(
        Scenario(effect=effect, seed_spread=0.005, clusters=clusters, cluster_spread=0.05)
        for effect in (0.0, 0.03)
        for clusters in (100, 400)
    ),
    Scenario(seeds=1, clusters=400, cluster_spread=0.05),
)


def draw(
    scenario: Scenario, rng: np.random.Generator
) -> tuple[dict[str, NDArray[np.bool_]], NDArray[np.int64] | None, dict[str, float]]:
    """Draw the answers of one campaign, its clusters, and each variant's true accuracy on a large population."""
    clusters = rng.integers(0, scenario.clusters, ITEMS) if scenario.clusters else None
    difficulty = rng.beta(1.3, 0.7, ITEMS)  # (items,)
    answers = {}
    for name in ("full", "C", "B"):
        shift = scenario.effect if name == "full" else 0.0
        own = rng.normal(0, scenario.cluster_spread, scenario.clusters)[clusters] if clusters is not None else 0.0
        spread = scenario.seed_spread if name == "full" or not scenario.full_alone else 0.0
        seeds = rng.normal(0, spread, (scenario.seeds, 1))
        answers[name] = rng.random((scenario.seeds, ITEMS)) < np.clip(difficulty + shift + own + seeds, 0, 1)
    return answers, clusters, _truths(scenario)


@cache
def _truths(scenario: Scenario) -> dict[str, float]:
    rng = np.random.default_rng(99)
    count = 4_000_000
    difficulty = rng.beta(1.3, 0.7, count)
    noise = rng.normal(0, 1, count)
    spreads = [0.0 if scenario.full_alone else scenario.seed_spread, scenario.seed_spread]
    low, high = (
        float(np.clip(difficulty + np.hypot(spread, scenario.cluster_spread) * noise + shift, 0, 1).mean())
        for spread, shift in zip(spreads, (0.0, scenario.effect), strict=True)
    )
    return {"full": high, "C": low, "B": low}


def simulate(scenario: Scenario, campaigns: int) -> dict[str, Any]:
    """Simulate campaigns of one scenario and count errors, coverage, and shown effects of `full`."""
    campaigns = campaigns if scenario.seeds > 1 else campaigns // 5  # the power of single runs is slow to compute
    rng = np.random.default_rng(7)
    wrong = covered = shown = intervals = 0
    for _ in range(campaigns):
        answers, clusters, truth = draw(scenario, rng)
        pairs = compare_pairs(answers, PAIRS, clusters=clusters)
        differences = [truth[pair.a] - truth[pair.b] for pair in pairs]
        wrong += any(pair.shown and abs(d) < 1e-12 for pair, d in zip(pairs, differences, strict=True))
        covered += sum(pair.ci_low <= d <= pair.ci_high for pair, d in zip(pairs, differences, strict=True))
        intervals += len(pairs)
        shown += pairs[0].shown
    return {
        **asdict(scenario),
        "campaigns": campaigns,
        "true_effect_points": round(100 * (_truths(scenario)["full"] - _truths(scenario)["C"]), 2),
        "family_wise_error": wrong / campaigns,
        "coverage": covered / intervals,
        "full_against_C_shown": shown / campaigns,
    }


def promised_power(discordance: float, campaigns: int) -> dict[str, Any]:
    """Compare the plan's promise with simulation: single runs at the difference said to be shown with 80 % power."""
    rng = np.random.default_rng(3)
    effect = minimum_detectable_effect(ITEMS, discordance)
    assert effect is not None
    cells = [(discordance + effect) / 2, (discordance - effect) / 2, 1 - discordance]
    shown = 0
    for n10, n01, _ in rng.multinomial(ITEMS, cells, size=campaigns):
        a, b = np.zeros(ITEMS, bool), np.zeros(ITEMS, bool)
        a[:n10], b[n10 : n10 + n01] = True, True
        (pair,) = compare_pairs({"a": a[None], "b": b[None]}, [("a", "b")])
        shown += pair.shown
    return {"discordance": discordance, "effect_points": round(100 * effect, 2), "power": shown / campaigns}


def main() -> int:
    """Simulate all scenarios and save the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=5000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    # statsmodels collects garbage in every correction, which costs 50 times the statistics unless modules are left out.
    with ProcessPoolExecutor(options.processes, initializer=gc.freeze) as processes:
        power_rows = processes.map(promised_power, DISCORDANCES, repeat(options.campaigns // 5))
        rows = list(processes.map(simulate, SCENARIOS, repeat(options.campaigns)))
        power = list(power_rows)
    print(*rows, *power, sep="\n")
    setting = {"environment": environment(torch.device("cpu")), "campaigns": options.campaigns, "items": ITEMS}
    save("simulated-campaigns", setting | {"scenarios": rows, "promised_power_80": power})
    return 0


if __name__ == "__main__":
    sys.exit(main())
