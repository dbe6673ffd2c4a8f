"""Simulate the gate's confident mode: what its intervals cover at every look, its errors, and the runs that it takes.

    python -m benchmarks.gate_looks [--campaigns 5000]

A run of `full` answers 1,319 items of their own difficulty; further runs under other seeds answer the same items, so
their answers are correlated. In some lines items come in clusters whose accuracies differ, or seeds differ. The gate's
own rules decide; the first campaigns of every line are also given to the real policy as sample files, which has to
decide alike. Each line is saved as soon as it is simulated; the same command goes on where it was interrupted, unless
the gate or this file have changed since.

The gate decides on the runs that were trained, so what an interval has to cover is their mean accuracy on all items
that there could be. A campaign errs if its last decision is certain and that accuracy belongs to another branch.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import environment, results_folder, save
from bridge_common.files import write_jsonl
from tune_spaces import analysis, gate
from tune_spaces.gate.decision import Branch, Decision, GateSettings, Mode, branch_of, decide
from tune_spaces.gate.evidence import Evidence, evidence_of
from tune_spaces.gate.outcome import Outcome
from tune_spaces.gate.policy import Policy

NAME = "gate-looks"
ITEMS = 1319
RUNS = ("full", "more-1", "more-2", "more-3")
TRUTHS = (0.60, 0.645, 0.65, 0.66, 0.675, 0.69, 0.70, 0.71, 0.74)
SOME_TRUTHS = (0.60, 0.65, 0.675, 0.70, 0.74)
DECIDED_BY_FILES = 10
"""Campaigns of each line that the real policy decides, too."""


class AtFirstLook(GateSettings):
    """The gate's former rule: each look has the full error level, as if it were the only one."""

    @property
    def look_level(self) -> float:
        """Confidence level of each look."""
        return self.level


RULES = {"equal_shares": GateSettings, "whole_error_at_each_look": AtFirstLook}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """How the answers of a simulated campaign are drawn, and by which rule the gate decides.

    Attributes:
        truth: accuracy of `full`, on all items and over all seeds.
        clusters: groups of related items; 0 makes all items independent.
        seed_spread: standard deviation of a seed's accuracy around the truth.
        rule: name of one of `RULES`.
    """

    truth: float
    clusters: int = 0
    seed_spread: float = 0.0
    rule: str = "equal_shares"


SCENARIOS = (
    *(Scenario(truth=truth, rule=rule) for rule in RULES for truth in TRUTHS),
    *(Scenario(truth=truth, clusters=clusters) for clusters in (10, 20, 60, 200) for truth in SOME_TRUTHS),
    *(Scenario(truth=truth, clusters=60, rule="whole_error_at_each_look") for truth in (0.65, 0.70)),
    *(Scenario(truth=truth, seed_spread=spread) for spread in (0.01, 0.02) for truth in SOME_TRUTHS),
    *(Scenario(truth=truth, clusters=60, seed_spread=0.01) for truth in SOME_TRUTHS),
)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The answers of a campaign.

    Attributes:
        correct: of each run, (runs, items).
        clusters: number of each item's cluster, (items,); None if items are independent.
        accuracies: true accuracy of each run on all items that there could be, (runs,).
    """

    correct: NDArray[np.bool_]
    clusters: NDArray[np.int64] | None
    accuracies: NDArray[np.float64]


def draw(scenario: Scenario, rng: np.random.Generator) -> Drawn:
    """Draw the answers of as many runs as the gate may take.

    An item's difficulty is a Beta variable around the accuracy of its cluster, which is one around the truth. A seed
    shifts each item in proportion to the variance of its answer, so that its accuracy is shifted by exactly the seed's
    own, and no probability leaves 0 to 1.
    """
    truth, spread = scenario.truth, 1.5
    clusters, mean = None, np.full(ITEMS, truth)
    mixed = truth * (1 - truth) * spread / (spread + 1)  # mean of d (1 - d)
    if scenario.clusters:
        within = 5.0
        rates = rng.beta(within * truth, within * (1 - truth), scenario.clusters)
        drawn = rng.integers(0, scenario.clusters, ITEMS)
        mean = rates[drawn]
        clusters = np.unique(drawn, return_inverse=True)[1].astype(np.int64)
        mixed *= within / (within + 1)
    difficulty = rng.beta(np.maximum(spread * mean, 1e-9), np.maximum(spread * (1 - mean), 1e-9))  # (items,)
    shift = rng.normal(0, scenario.seed_spread, len(RUNS)) if scenario.seed_spread else np.zeros(len(RUNS))
    shift = np.clip(shift, -0.9 * mixed, 0.9 * mixed)  # (runs,)
    chance = difficulty + np.outer(shift / mixed, difficulty * (1 - difficulty))  # (runs, items)
    return Drawn(correct=rng.random(chance.shape) < chance, clusters=clusters, accuracies=truth + shift)


def all_looks(drawn: Drawn, settings: GateSettings) -> list[Decision]:
    """Decide after each run as the policy does, also after a decision that is certain."""
    decisions: list[Decision] = []
    for runs in range(1, len(RUNS) + 1):
        decisions.append(_look(drawn, runs, settings, [decision.evidence for decision in decisions]))
    return decisions


def _look(drawn: Drawn, runs: int, settings: GateSettings, earlier: list[Evidence]) -> Decision:
    correct = drawn.correct[:runs]
    evidence = evidence_of(
        correct.mean(axis=0),
        accuracy=int(correct.sum()) / correct.size,
        answers=correct.size,
        clusters=drawn.clusters,
        runs=runs,
        level=settings.look_level,
        earlier=earlier[-1] if earlier else None,
    )
    return decide(evidence, settings, earlier)


def simulate(scenario: Scenario, campaigns: int) -> dict[str, Any]:
    """Simulate campaigns; return how often intervals cover and decisions err, and the mean number of runs."""
    settings = RULES[scenario.rule](mode=Mode.CONFIDENT)
    rng = np.random.default_rng([int(1000 * scenario.truth), scenario.clusters, int(1000 * scenario.seed_spread)])
    covered = np.zeros(len(RUNS), int)
    together = nested = wrong = wrong_for_another_seed = certain = runs = wider = contradict = 0
    for number in range(campaigns):
        drawn = draw(scenario, rng)
        decisions = all_looks(drawn, settings)
        truths = np.round(np.cumsum(drawn.accuracies) / np.arange(1, len(RUNS) + 1), 12)  # 0.7 is 0.7
        hits = [d.evidence.low <= truth <= d.evidence.high for d, truth in zip(decisions, truths, strict=True)]
        covered += hits
        together += all(hits)
        lows, highs = (np.array([getattr(d.evidence, end) for d in decisions]) for end in ("low", "high"))
        nested += bool(np.all((np.maximum.accumulate(lows) <= truths) & (truths <= np.minimum.accumulate(highs))))
        wider += bool((np.diff(highs - lows) > 0).any())
        contradict += any(decision.contradicts for decision in decisions)
        used = next((i for i, d in enumerate(decisions) if not d.uncertain), len(RUNS) - 1)
        last = decisions[used]
        if number < DECIDED_BY_FILES:
            compare_with_policy(drawn, settings, decisions[: used + 1])
        runs += used + 1
        certain += not last.uncertain
        wrong += _errs(last, float(truths[used]), settings)
        wrong_for_another_seed += _errs(last, scenario.truth, settings)
    return {
        **asdict(scenario),
        "campaigns": campaigns,
        "look_level": settings.look_level,
        "coverage_at_look": [round(float(count) / campaigns, 4) for count in covered],
        "coverage_at_all_looks": together / campaigns,
        "coverage_if_intersected": nested / campaigns,
        "wrong_and_certain": wrong / campaigns,
        "wrong_and_certain_for_other_seeds": wrong_for_another_seed / campaigns,
        "certain": certain / campaigns,
        "runs": runs / campaigns,
        "some_look_wider_than_the_one_before": wider / campaigns,
        "looks_contradict": contradict / campaigns,
    }


def _errs(decision: Decision, truth: float, settings: GateSettings) -> bool:
    return not decision.uncertain and decision.branch is not branch_of(truth, settings)


def compare_with_policy(drawn: Drawn, settings: GateSettings, decisions: list[Decision]) -> None:
    """Give the same answers to the real policy, as sample files.

    Raises:
        AssertionError: it asks for another number of runs, or decides otherwise.
    """
    policy = Policy(first=RUNS[:1], extras=RUNS[1:], branches=dict.fromkeys(Branch, ()), gate=settings)
    with tempfile.TemporaryDirectory() as name:
        for run, correct in enumerate(drawn.correct):
            if policy.finished:
                break
            policy.observe(RUNS[run], _outcome(correct, drawn.clusters, Path(name) / str(run)))
        assert policy.decisions() == decisions


def _outcome(correct: NDArray[np.bool_], clusters: NDArray[np.int64] | None, folder: Path) -> Outcome:
    rows: list[dict[str, Any]] = [{"id": str(i), "bridged_correct": bool(value)} for i, value in enumerate(correct)]
    if clusters is not None:
        rows = [row | {"cluster": f"{cluster:04}"} for row, cluster in zip(rows, clusters.tolist(), strict=True)]
    write_jsonl(folder / "samples.jsonl", rows)
    count = int(np.sum(correct))
    return Outcome(accuracy=count / len(rows), correct=count, n=len(rows), folder=str(folder))


def source_digest() -> str:
    """Return a digest of this file and of the gate, by which lines of another version are recognised."""
    files = [Path(__file__), *sorted(Path(gate.__file__).parent.glob("*.py"))]
    files.append(Path(analysis.__file__).parent / "clustering.py")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def main() -> int:
    """Simulate all scenarios, and save each line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=5000)
    campaigns: int = parser.parse_args().campaigns
    command = f"python -m benchmarks.gate_looks --campaigns {campaigns}"
    setting = {"command": command, "source": source_digest(), "campaigns": campaigns, "items": ITEMS}
    path = results_folder() / f"{NAME}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    lines = known["lines"] if all(known.get(name) == value for name, value in setting.items()) else []
    for scenario in SCENARIOS:
        if any(asdict(scenario).items() <= line.items() for line in lines):
            continue
        lines.append(simulate(scenario, campaigns))
        print(lines[-1], flush=True)
        save(NAME, {"environment": environment(torch.device("cpu")), **setting, "lines": lines})
    return 0


if __name__ == "__main__":
    sys.exit(main())
