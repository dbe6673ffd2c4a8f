"""Plots exist, are PNG, show their data, and need neither a display nor global state."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tune_spaces.appendix import plots

ROWS = [
    {"label": "geometry_projection (leave one out)", "estimate": 0.02, "low": -0.01, "high": 0.05, "shown": False},
    {"label": "kl_alignment (leave one out)", "estimate": 0.08, "low": 0.05, "high": 0.11, "shown": True},
    {"label": "prompt_alignment (leave one out)", "estimate": None, "low": None, "high": None},
]


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("L"))
        assert pixels.std() > 5, "an empty picture"
        return image.size


def test_forest(tmp_path: Path) -> None:
    path = plots.forest(tmp_path / "new" / "forest.png", ROWS, noise_floor=0.025, title="Effects")
    assert path == tmp_path / "new" / "forest.png"
    _, short = size(path)
    _, tall = size(plots.forest(tmp_path / "tall.png", ROWS * 10))
    assert tall > 2 * short


def test_forest_without_any_estimate_and_without_rows(tmp_path: Path) -> None:
    size(plots.forest(tmp_path / "a.png", ROWS[2:]))
    size(plots.forest(tmp_path / "b.png", []))


def test_accuracy_by_soft_tokens(tmp_path: Path) -> None:
    rows = [
        {"K": k, "accuracy": 0.6 + 0.02 * i, "low": 0.57 + 0.02 * i, "high": 0.63 + 0.02 * i, "saved": 1 - k / 1450}
        for i, k in enumerate((64, 128, 256, 512))
    ]
    with_memory = plots.accuracy_by_soft_tokens(tmp_path / "k.png", rows, baseline=0.6)
    without = [{name: value for name, value in row.items() if name != "saved"} for row in rows]
    size(with_memory)
    size(plots.accuracy_by_soft_tokens(tmp_path / "plain.png", without))


def test_training_curves(tmp_path: Path) -> None:
    steps = list(range(0, 2000, 10))
    curves = {f"variant {i}": (steps, [3 / (1 + s / 200) + 0.1 * i for s in steps]) for i in range(12)}
    size(plots.training_curves(tmp_path / "c.png", curves, value="loss/total"))
    size(plots.training_curves(tmp_path / "one.png", {"full": ([1], [float("nan")])}, value="loss"))


def test_gate(tmp_path: Path) -> None:
    points = [
        {"label": "full", "accuracy": 0.66, "low": 0.634, "high": 0.685},
        {"label": "B", "accuracy": 0.62, "low": 0.594, "high": 0.646},
    ]
    size(plots.gate(tmp_path / "g.png", points, passes=0.70, attribute=0.65, decision="B and C run (uncertain)"))


def test_equal_data_give_equal_bytes(tmp_path: Path) -> None:
    first = plots.forest(tmp_path / "1.png", ROWS).read_bytes()
    assert plots.forest(tmp_path / "2.png", ROWS).read_bytes() == first


@pytest.mark.parametrize("module", ["tune_spaces.appendix.plots"])
def test_importing_does_not_load_matplotlib(module: str) -> None:
    code = f"import sys, {module}; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
