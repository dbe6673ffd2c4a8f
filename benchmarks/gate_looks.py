"""Simulate the gate's confident mode: how often it is certain of a wrong branch, and how many runs it needs.

    python -m benchmarks.gate_looks [--campaigns 1000]

The real policy decides on real sample files. A run of `full` answers 1,319 items of its own difficulty; further runs
under other seeds share the items, as in a campaign, so their answers are correlated. A campaign errs if its last
decision is certain and the branch is not that of the true accuracy.
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import environment, save
from bridge_common.files import write_jsonl
from tune_spaces.gate.decision import GateSettings, Mode, branch_of
from tune_spaces.gate.outcome import Outcome
from tune_spaces.gate.policy import Policy

ITEMS = 1319
TRUTHS = (0.60, 0.645, 0.65, 0.66, 0.675, 0.69, 0.70, 0.71, 0.74)
RUNS = ("full", "more-1", "more-2", "more-3")


class AtFirstLook(GateSettings):
    """The gate's former rule: each look has the full error level, as if it were the only one."""

    @property
    def look_level(self) -> float:
        """Confidence level of each look."""
        return self.level


def simulate(truth: float, settings: GateSettings, campaigns: int) -> dict[str, Any]:
    """Simulate campaigns at one true accuracy of `full`; return their error rate and mean number of runs."""
    with tempfile.TemporaryDirectory() as name:
        return _simulate(truth, settings, campaigns, Path(name))


def _simulate(truth: float, settings: GateSettings, campaigns: int, folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(int(1000 * truth))
    right = branch_of(truth, settings)
    wrong = certain = runs = 0
    for _ in range(campaigns):
        difficulty = rng.beta(1.5 * truth, 1.5 * (1 - truth), ITEMS)  # (items,), mean accuracy is the truth
        policy = Policy(first=RUNS[:1], extras=RUNS[1:], branches={"pass": ()}, gate=settings)
        for number, name in enumerate(RUNS):
            policy.observe(name, outcome(rng.random(ITEMS) < difficulty, folder / str(number)))
            policy.branches = dict.fromkeys(("pass", "attribute", "attribute_all"), ())
            if policy.finished:
                break
        decision = policy.decisions()[-1]
        runs += number + 1
        certain += not decision.uncertain
        wrong += not decision.uncertain and decision.branch is not right
    return {
        "truth": truth,
        "wrong_and_certain": wrong / campaigns,
        "certain": certain / campaigns,
        "runs": runs / campaigns,
    }


def outcome(correct: NDArray[np.bool_], folder: Path) -> Outcome:
    """Write the answers of a run and return its outcome."""
    rows = [{"id": str(i), "bridged_correct": bool(value)} for i, value in enumerate(correct)]
    write_jsonl(folder / "samples.jsonl", rows)
    count = int(np.sum(correct))
    return Outcome(accuracy=count / len(rows), correct=count, n=len(rows), folder=str(folder))


def main() -> int:
    """Simulate both rules at several true accuracies, and save the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=1000)
    options = parser.parse_args()
    shared = GateSettings(mode=Mode.CONFIDENT)
    rules = {"equal_shares": shared, "whole_error_at_each_look": AtFirstLook(mode=Mode.CONFIDENT)}
    results = {}
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        for rule, settings in rules.items():
            results[rule] = list(processes.map(simulate, TRUTHS, repeat(settings), repeat(options.campaigns)))
    for rule, rows in results.items():
        print(rule, *rows, sep="\n")
    setting = {"environment": environment(torch.device("cpu")), "campaigns": options.campaigns, "items": ITEMS}
    save("gate-looks", setting | results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
