"""Simulate campaigns whose true accuracies are known, and count how often the appendix is wrong.

    python -m benchmarks.simulated_campaigns [--campaigns 5000]

Items differ in difficulty and are shared by all variants and seeds; in some scenarios they come in clusters of related
questions, in which a variant's effect differs, and seeds of one variant differ. Reported are the family-wise error
(some difference shown where there is none), that of the corrected tests alone, which the noise floor may overrule, the
coverage of 95 % intervals of differences and of accuracies, and the power at the difference that the plan promises to
show in 80 % of cases: of a comparison alone, and of one question among as many as each phase asks.

Every line is saved as soon as it is simulated; the same command goes on where it was interrupted, unless the
estimators or this file have changed since.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import environment, results_folder, save
from tune_spaces import analysis
from tune_spaces.analysis.estimates import Cells
from tune_spaces.analysis.noise_floor import LEVEL, is_shown, noise_floor
from tune_spaces.analysis.paired_tests import adjust, mcnemar_exact
from tune_spaces.analysis.pairwise import compare_pairs
from tune_spaces.design.cost_estimates import comparison_resolution

NAME = "simulated-campaigns"
ITEMS = 1319
PROMISES = ((0.08, 1), (0.12, 1), (0.2, 1), (0.3, 1), (0.12, 2), (0.12, 3), (0.12, 8))
"""Share of discordant items, and number of comparisons in the family."""
ESTIMATORS = ("clustering", "estimates", "noise_floor", "paired_comparison", "paired_tests", "pairwise")
"""Modules of `tune_spaces.analysis` that the figures depend on."""
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
    *(Scenario(seeds=1, clusters=clusters, cluster_spread=0.05) for clusters in (6, 10, 20, 60, 400)),
    *(Scenario(seed_spread=0.005, clusters=clusters, cluster_spread=0.05) for clusters in (6, 10, 20, 60)),
    Scenario(seeds=1, effect=0.03, clusters=60, cluster_spread=0.05),
    *(Scenario(seed_spread=0.02, clusters=clusters, cluster_spread=0.05) for clusters in (20, 100)),
    *(Scenario(seeds=seeds, seed_spread=spread) for seeds in (2, 5) for spread in (0.0, 0.02)),
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
    rng = np.random.default_rng(7)
    wrong = rejected = covered = shown = intervals = accurate = 0
    for _ in range(campaigns):
        answers, clusters, truth = draw(scenario, rng)
        floor = noise_floor([cell.mean(axis=1).tolist() for cell in answers.values()])
        pairs = compare_pairs(answers, PAIRS, clusters=clusters, floor=floor)
        differences = [truth[pair.a] - truth[pair.b] for pair in pairs]
        none = [pair for pair, d in zip(pairs, differences, strict=True) if abs(d) < 1e-12]
        wrong += any(pair.shown for pair in none)
        rejected += any(pair.p_adjusted < LEVEL for pair in none)
        covered += sum(pair.ci_low <= d <= pair.ci_high for pair, d in zip(pairs, differences, strict=True))
        intervals += len(pairs)
        shown += pairs[0].shown
        cells = Cells.of(answers, clusters)
        low, high = cells.accuracy("full")
        accurate += low <= truth["full"] <= high
    return {
        **asdict(scenario),
        "campaigns": campaigns,
        "true_effect_points": round(100 * (_truths(scenario)["full"] - _truths(scenario)["C"]), 2),
        "family_wise_error": wrong / campaigns,
        "family_wise_error_of_tests": rejected / campaigns,
        "coverage": covered / intervals,
        "coverage_of_accuracy": accurate / campaigns,
        "full_against_C_shown": shown / campaigns,
    }


def promised_power(discordance: float, comparisons: int, campaigns: int) -> dict[str, Any]:
    """Compare the plan's promise with simulation: single runs at the difference said to be shown with 80 % power.

    One comparison of the family has that difference, the others none.
    """
    rng = np.random.default_rng(3)
    effect = comparison_resolution(ITEMS, discordance, comparisons)
    assert effect is not None
    true = np.array([effect] + [0.0] * (comparisons - 1))
    shares = np.stack([(discordance + true) / 2, (discordance - true) / 2, np.full(comparisons, 1 - discordance)], 1)
    counts = rng.multinomial(ITEMS, shares, (campaigns, comparisons))  # (campaigns, comparisons, 3)
    p_values = mcnemar_exact(counts[..., 0], counts[..., 1])  # (campaigns, comparisons)
    differences = (counts[:, 0, 0] - counts[:, 0, 1]) / ITEMS
    shown = sum(
        is_shown(difference, adjust(family)[0], None)
        for difference, family in zip(differences.tolist(), p_values.tolist(), strict=True)
    )
    return {
        "discordance": discordance,
        "comparisons": comparisons,
        "effect_points": round(100 * effect, 2),
        "power": shown / campaigns,
    }


def all_lines(campaigns: int) -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    """Yield the settings of each line of the result, and what simulates it."""
    for scenario in SCENARIOS:
        yield asdict(scenario), partial(simulate, scenario, campaigns)
    for discordance, comparisons in PROMISES:
        settings = {"discordance": discordance, "comparisons": comparisons}
        yield settings, partial(promised_power, discordance, comparisons, campaigns)


def source_digest() -> str:
    """Return a digest of this file and of the estimators, by which lines of another version are recognised."""
    files = [Path(__file__), *(Path(analysis.__file__).parent / f"{name}.py" for name in ESTIMATORS)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def finished_lines(setting: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the lines that an interrupted run of the same setting has saved."""
    path = results_folder() / f"{NAME}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    same = all(known.get(name) == value for name, value in setting.items())
    return [*known["scenarios"], *known["promised_power_80"]] if same else []


def main() -> int:
    """Simulate all scenarios and save the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=5000)
    campaigns: int = parser.parse_args().campaigns
    command = f"python -m benchmarks.simulated_campaigns --campaigns {campaigns}"
    setting = {"command": command, "source": source_digest(), "campaigns": campaigns, "items": ITEMS}
    lines = finished_lines(setting)
    for settings, simulated in all_lines(campaigns):
        if any(settings.items() <= line.items() for line in lines):
            continue
        lines.append(simulated())
        print(lines[-1], flush=True)
        rows = {
            "scenarios": [line for line in lines if "seeds" in line],
            "promised_power_80": [line for line in lines if "power" in line],
        }
        save(NAME, {"environment": environment(torch.device("cpu")), **setting, **rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
