"""Sample files of a made campaign and the table of their trials, with accuracies that a test sets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tune_spaces.analysis.analyse import Appendix, analyse
from tune_spaces.analysis.scored_trials import read_trials

TOGGLES = ("kl_alignment", "prompt_alignment", "decode_aware", "geometry_projection")
ITEMS = 600
PLAN = {"full": TOGGLES, "A": TOGGLES[:1], "B": TOGGLES[:1], "C": TOGGLES[:3]}


def write_samples(path: Path, correct: dict[str, np.ndarray], first: int = 0) -> Path:
    """Write a sample file as a job does, with texts that would break a table or a code block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for i in range(len(correct["bridged"])):
            row: dict[str, Any] = {"id": f"made-{first + i:05d}", "index": first + i, "gold": str(i % 50)}
            row["question"] = f"How many | pipes\nare in ```code``` number {i}?"
            for condition, flags in correct.items():
                answer = str(i % 50) if flags[i] else None
                row |= {f"{condition}_output": f"#### {answer}", f"{condition}_answer": answer}
                row |= {f"{condition}_correct": bool(flags[i]), f"{condition}_valid": answer is not None}
            file.write(json.dumps(row) + "\n")
    return path


class WrittenCampaign:
    """Sample files and the tidy table of their trials, with accuracies that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, []
        self.rng = np.random.default_rng(0)
        self.difficulty = self.rng.beta(1.3, 0.7, ITEMS)
        self.alone = self.rng.random(ITEMS) < np.clip(self.difficulty - 0.15, 0, 1)

    def draw(self, shift: float) -> np.ndarray:
        return self.rng.random(ITEMS) < np.clip(self.difficulty + shift, 0, 1)

    def run(self, variant: str, on: tuple[str, ...], seed: int, shift: float, **settings: Any) -> None:
        bridged = self.draw(shift)
        conditions = {"bridged": bridged, "target_alone": self.alone, "shuffled_soft": self.draw(-0.25)}
        name = f"trials/{variant}-{seed}/samples.jsonl"
        write_samples(self.folder / name, conditions)
        toggles = {toggle: toggle in on for toggle in TOGGLES}
        accuracy = float(bridged.mean())
        row = {"variant": variant, "seed": seed, **toggles, "soft_tokens": 64, "accuracy/bridged": accuracy}
        self.rows.append({**row, "samples": name, **settings})

    def plan(self, value: Callable[[str], float]) -> "WrittenCampaign":
        for variant, on in PLAN.items():
            self.run(variant, on, seed=int(variant == "A"), shift=value(variant))
        return self

    def appendix(self, **options: Any) -> Appendix:
        trials = read_trials(pd.DataFrame(self.rows), TOGGLES, root=self.folder)
        return analyse(trials, TOGGLES, **options)
