"""Plots show the series they were given, with their labels and limits, and need neither a display nor global state."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from tune_spaces.appendix import compression_plots, plots

EFFECTS = [
    {"label": "geometry_projection (leave one out)", "estimate": 0.02, "low": -0.01, "high": 0.05, "shown": False},
    {"label": "kl_alignment (leave one out)", "estimate": 0.08, "low": 0.05, "high": 0.11, "shown": True},
    {"label": "prompt_alignment (leave one out)", "estimate": None, "low": None, "high": None},
]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return a list that takes every figure that is written."""
    written: list[Figure] = []
    save = plots._save

    def kept(figure: Figure, path: Path) -> Path:
        written.append(figure)
        return save(figure, path)

    monkeypatch.setattr(plots, "_save", kept)
    return written


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("L"))
        assert pixels.std() > 5, "an empty picture"
        return image.size


def points(line: Line2D) -> list[tuple[float, float]]:
    """Return the points of a line, rounded."""
    return [(round(float(x), 6), round(float(y), 6)) for x, y in zip(*line.get_data(), strict=True)]


def series(axes: Axes) -> list[list[tuple[float, float]]]:
    """Return the points of every line, in the order in which they were drawn."""
    return [points(line) for line in axes.get_lines()]


def texts(labels: Any) -> list[str]:
    return [label.get_text() for label in labels]


def bands(axes: Axes) -> list[tuple[float, float]]:
    """Return from where to where each vertical band reaches."""
    patches = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(round(p.get_x(), 6), round(p.get_x() + p.get_width(), 6)) for p in patches]


def test_forest_draws_effects_with_intervals_in_points_over_the_noise_band(
    tmp_path: Path, figures: list[Figure]
) -> None:
    path = plots.forest(tmp_path / "new" / "forest.png", EFFECTS, noise_floor=0.025, title="Effects")
    assert path == tmp_path / "new" / "forest.png"
    size(path)
    (axes,) = figures[0].axes
    zero, *effects = axes.get_lines()
    assert [x for x, _ in points(zero)] == [0, 0]
    assert [points(line) for line in effects] == [[(-1, 0), (5, 0)], [(2, 0)], [(5, 1), (11, 1)], [(8, 1)]]
    not_shown, shown = effects[1], effects[3]
    assert (not_shown.get_marker(), not_shown.get_markerfacecolor()) == ("o", "white")
    assert to_hex(str(shown.get_markerfacecolor())) == to_hex(str(shown.get_color())), "filled, since it is shown"
    assert bands(axes) == [(-2.5, 2.5)]
    assert texts(axes.texts) == ["not run"]
    assert axes.texts[0].xy == (0, 2)  # type: ignore[attr-defined]
    assert texts(axes.get_yticklabels()) == [row["label"] for row in EFFECTS]
    assert list(axes.get_yticks()) == [0, 1, 2]
    bottom, top = axes.get_ylim()
    assert bottom > 2, "the first effect is on top"
    assert top < 0
    low, high = axes.get_xlim()
    assert low <= -2.5
    assert high >= 11
    assert "percentage points" in axes.get_xlabel()
    assert axes.get_title().startswith("Effects\n")
    assert "replicates" in axes.get_title()


def test_forest_grows_with_its_rows(tmp_path: Path, figures: list[Figure]) -> None:
    _, short = size(plots.forest(tmp_path / "short.png", EFFECTS))
    _, tall = size(plots.forest(tmp_path / "tall.png", EFFECTS * 10))
    assert tall > 2 * short
    assert not bands(figures[0].axes[0]), "no band without a noise floor"
    assert figures[0].axes[0].get_title() == ""


def test_forest_without_any_estimate_and_without_rows(tmp_path: Path, figures: list[Figure]) -> None:
    size(plots.forest(tmp_path / "a.png", EFFECTS[2:]))
    size(plots.forest(tmp_path / "b.png", []))
    assert [figure.axes[0].get_xlim() for figure in figures] == [(-5, 5), (-5, 5)]
    assert texts(figures[0].axes[0].texts) == ["not run"]


def test_accuracy_by_soft_tokens_draws_accuracy_memory_and_baseline(tmp_path: Path, figures: list[Figure]) -> None:
    sizes = (64, 128, 256, 512)
    rows = [
        {"K": k, "accuracy": 0.6 + 0.02 * i, "low": 0.57 + 0.02 * i, "high": 0.64 + 0.02 * i, "saved": 1 - k / 1024}
        for i, k in enumerate(sizes)
    ]
    size(compression_plots.accuracy_by_soft_tokens(tmp_path / "k.png", rows[::-1], baseline=0.6))
    left, right = figures[0].axes
    ((line, caps, (bars,)),) = left.containers
    assert points(line) == [(64, 60), (128, 62), (256, 64), (512, 66)], "in the order of K"
    assert [points(cap) for cap in caps] == [
        [(64, 57), (128, 59), (256, 61), (512, 63)],
        [(64, 64), (128, 66), (256, 68), (512, 70)],
    ]
    assert np.allclose(bars.get_segments(), [[[k, 57 + 2 * i], [k, 64 + 2 * i]] for i, k in enumerate(sizes)])
    (baseline,) = [line for line in left.get_lines() if line.get_label() == "target alone"]
    assert [y for _, y in points(baseline)] == [60, 60]
    assert series(right) == [[(64, 93.75), (128, 87.5), (256, 75), (512, 50)]]
    assert left.get_xscale() == "log"
    assert texts(left.get_xticklabels()) == ["64", "128", "256", "512"]
    assert left.get_xlabel() == "soft tokens K"
    assert left.get_ylabel().startswith("accuracy, %")
    assert right.get_ylabel().startswith("KV-cache memory saved, %")
    legend = left.get_legend()
    assert legend is not None
    assert sorted(texts(legend.get_texts())) == ["bridged accuracy", "target alone"]
    boxes = [axes.get_position() for axes in (left, right)]
    assert boxes[0].x1 < boxes[1].x0, "two panels, since they show two quantities"


def test_accuracy_by_soft_tokens_without_memory_and_baseline(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [{"K": k, "accuracy": 0.6, "low": 0.5, "high": 0.7} for k in (64, 128)]
    size(compression_plots.accuracy_by_soft_tokens(tmp_path / "plain.png", rows))
    (axes,) = figures[0].axes
    legend = axes.get_legend()
    assert legend is not None
    assert texts(legend.get_texts()) == ["bridged accuracy"]


def compressed(way: str, tokens: int | None, accuracy: float, held: float | None, efficient: bool) -> dict[str, Any]:
    known = {"accuracy": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05}
    return {"way": way, "tokens": tokens, **known, "prompt_kv_bytes": held, "efficient": efficient}


def test_compression_draws_accuracy_by_k_and_the_front_in_two_panels(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [
        compressed("soft_only", 4, 0.5, 10_000, True),
        compressed("soft_only", 16, 0.9, 20_000, True),
        compressed("question_cut", 4, 0.2, 11_000, False),
        compressed("question_cut", 16, 0.6, None, False),
        compressed("target_alone", None, 0.7, 30_000, False),
    ]
    size(compression_plots.compression(tmp_path / "c.png", rows))
    left, right = figures[0].axes
    assert left.get_position().x1 < right.get_position().x0
    assert [points(container[0]) for container in left.containers] == [[(4, 50), (16, 90)], [(4, 20), (16, 60)]]
    assert [y for _, y in points(left.get_lines()[-1])] == [70, 70], "the whole prompt has no K"
    (front,) = [line for line in right.get_lines() if line.get_label() == "not beaten in both"]
    assert points(front) == [(10, 50), (20, 90)]
    assert [points(container[0]) for container in right.containers] == [[(10, 50), (20, 90)], [(11, 20)], [(30, 70)]]
    assert texts(right.texts) == ["4", "16", "4"], "each point names its K"
    assert right.get_xlabel().startswith("keys and values of the target's prompt, kB")
    (legend,) = figures[0].legends
    assert texts(legend.get_texts()) == [
        *("the whole prompt", "soft tokens instead of the prompt", "the question cut", "not beaten in both"),
    ]


def test_training_curves_draw_every_variant_in_a_style_of_its_own(tmp_path: Path, figures: list[Figure]) -> None:
    steps = list(range(0, 2000, 10))
    curves = {f"variant {i}": (steps, [3 / (1 + s / 200) + 0.1 * i for s in steps]) for i in range(12)}
    runs = {name: [curve, curve] for name, curve in curves.items()}  # two seeds each
    size(plots.training_curves(tmp_path / "c.png", runs, value="validation/accuracy"))
    (axes,) = figures[0].axes
    assert len(axes.get_lines()) == 24
    assert all(line.get_label().startswith("_") for line in axes.get_lines()[1::2])  # no second entry of a variant
    lines = axes.get_lines()[::2]
    assert [line.get_label() for line in lines] == list(curves)
    for line, (name, (x, y)) in zip(lines, curves.items(), strict=True):
        assert np.array_equal(line.get_xdata(), x), name
        assert np.array_equal(line.get_ydata(), y), name
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 12
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "validation/accuracy")
    legend = axes.get_legend()
    assert legend is not None
    assert texts(legend.get_texts()) == list(curves)


def test_training_curves_survive_a_loss_that_is_not_a_number(tmp_path: Path, figures: list[Figure]) -> None:
    size(plots.training_curves(tmp_path / "one.png", {"full": [([1], [float("nan")])]}, value="loss"))
    size(plots.training_curves(tmp_path / "none.png", {}, value="loss"))
    assert figures[1].axes[0].get_legend() is None


def test_entropy_curves_draw_shares_in_percent_below_the_uniform_one(tmp_path: Path, figures: list[Figure]) -> None:
    curves = {"pooling": [([0, 10], [1.0, 0.8]), ([0, 10], [0.9, 0.75])], "cross": [([0, 10], [1.0, 0.25])]}
    size(plots.entropy_curves(tmp_path / "attention.png", curves))
    (axes,) = figures[0].axes
    uniform, *runs = axes.get_lines()
    assert [y for _, y in points(uniform)] == [100, 100]
    assert [points(line) for line in runs] == [[(0, 100), (10, 80)], [(0, 90), (10, 75)], [(0, 100), (10, 25)]]
    first, second, other = (line.get_color() for line in runs)
    assert first == second != other, "one colour for the runs of a variant"
    assert texts(axes.get_legend().get_texts()) == ["uniform: all tokens alike", "pooling", "cross"]
    assert axes.get_ylim() == (0, 105)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "entropy, % of the uniform one")


def test_gate_draws_runs_over_the_three_branches(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [
        {"label": "full", "accuracy": 0.66, "low": 0.634, "high": 0.685},
        {"label": "B", "accuracy": 0.62, "low": 0.594, "high": 0.646},
    ]
    decision = "B and C run (uncertain)"
    size(plots.gate(tmp_path / "g.png", rows, passes=0.70, attribute=0.65, decision=decision))
    (axes,) = figures[0].axes
    assert series(axes) == [[(63.4, 0), (68.5, 0)], [(66, 0)], [(59.4, 1), (64.6, 1)], [(62, 1)]]
    judged, other = axes.get_lines()[1], axes.get_lines()[3]
    assert judged.get_color() != other.get_color(), "the run that the gate judged stands out"
    (low, attribute), (from_attribute, to_passes), (passes, high) = bands(axes)
    assert (attribute, from_attribute, to_passes, passes) == (65, 65, 70, 70)
    assert axes.get_xlim() == pytest.approx((low, high))
    assert low < 59.4
    assert high > 70
    assert texts(axes.texts) == ["below 65 %", "65 to 70 %", "70 %: passed"]
    assert texts(axes.get_yticklabels()) == ["full", "B"]
    assert axes.get_xlabel().startswith("bridged accuracy, %")
    assert axes.get_title() == decision


def test_equal_data_give_equal_bytes(tmp_path: Path) -> None:
    first = plots.forest(tmp_path / "1.png", EFFECTS).read_bytes()
    assert plots.forest(tmp_path / "2.png", EFFECTS).read_bytes() == first


@pytest.mark.parametrize("module", ["tune_spaces.appendix.plots"])
def test_importing_does_not_load_matplotlib(module: str) -> None:
    code = f"import sys, {module}; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


COSTED = [
    {"variant": variant, "condition": condition, "flops": flops, "accuracy": accuracy}
    | {"low": accuracy - 0.05, "high": accuracy + 0.05, "efficient": efficient}
    for variant, condition, flops, accuracy, efficient in (
        ("full", "bridged", 4e9, 0.7, True),
        ("full", "target_alone", 1e9, 0.4, True),
        ("full", "text_bridge", 9e9, 0.6, False),
        ("k8", "bridged", 2e9, 0.5, True),
        ("k8", "target_alone", 1e9, 0.4, True),
    )
]


def test_pareto_has_a_front_for_each_source_target_and_task(tmp_path: Path, figures: list[Figure]) -> None:
    other = {**COSTED[0], "variant": "swap", "flops": 5e8, "accuracy": 1.0, "low": 0.9, "high": 1.0, "setting": 1}
    size(plots.pareto(tmp_path / "pareto.png", [*({**row, "setting": 0} for row in COSTED), other]))
    (axes,) = figures[0].axes
    assert [points(line) for line in axes.get_lines()[:2]] == [[(1e9, 40), (2e9, 50), (4e9, 70)], [(5e8, 100)]]
    assert texts(axes.get_legend().get_texts()).count("not beaten in both") == 1


def test_pareto_has_a_series_for_each_condition_and_joins_what_is_not_beaten(
    tmp_path: Path, figures: list[Figure]
) -> None:
    size(plots.pareto(tmp_path / "pareto.png", COSTED))
    (axes,) = figures[0].axes
    front = axes.get_lines()[0]
    assert points(front) == [(1e9, 40), (2e9, 50), (4e9, 70)]
    drawn = {bars.get_label(): points(bars.lines[0]) for bars in axes.containers}
    assert drawn == {
        "bridged": [(4e9, 70), (2e9, 50)],
        "target alone": [(1e9, 40)],  # which the variants share
        "text bridge": [(9e9, 60)],
    }
    assert texts(axes.get_legend().get_texts()) == ["not beaten in both", "bridged", "target alone", "text bridge"]
    assert texts(axes.texts) == ["full", "k8"]
    assert axes.get_xscale() == "log"
    assert axes.get_xlim() == pytest.approx((1e9 / 1.5, 9e9 * 1.5))
    assert axes.get_ylim() == pytest.approx((30, 80))
    assert axes.get_xlabel() == "FLOPs a question, the source's counted in"
    assert axes.get_ylabel() == "accuracy, % (95 % interval)"
