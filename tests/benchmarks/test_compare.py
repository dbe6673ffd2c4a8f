"""Two results of a benchmark are compared in ratios, with an interval where there are several runs."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from benchmarks.compare import compare, compare_results, main, quantities

H100 = {"gpu": "H100", "device": "cuda", "cpus": 16, "gpus": 1, "torch": "2.11"}


def run(step: float, rate: float, **environment: Any) -> dict[str, Any]:
    return {
        "environment": H100 | environment,
        "command": "python -m benchmarks.train_step",
        "train": {"step_ms": step, "floor_ms": 30.0, "tokens_per_s": rate, "rows": 8, "peak_gib": 40.0},
        "metrics": {"accuracy": 0.5, "cost_seconds": 3.0},
    }


def folder(path: Path, runs: list[dict[str, Any]]) -> Path:
    path.mkdir()
    for i, content in enumerate(runs):
        (path / f"run{i}.json").write_text(json.dumps(content))
    return path


def code(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["compare", *map(str, arguments)])
    return main()


def test_times_rates_and_memory_are_found_and_nothing_else() -> None:
    assert dict(quantities(run(70.0, 900.0))) == {
        "train/step_ms": [70.0],
        "train/tokens_per_s": [900.0],
        "train/peak_gib": [40.0],
    }
    listed = {
        "jobs": [{"name": "gate", "seconds": 5.5}, {"seconds": {"gate": 2, "prepare": 3.5}, "step_ms": [1, 2, 3]}]
    }
    assert dict(quantities(listed)) == {
        "jobs/gate/seconds": [5.5],
        "jobs/1/seconds/gate": [2.0],
        "jobs/1/seconds/prepare": [3.5],
        "jobs/1/step_ms": [1.0, 2.0, 3.0],
    }


def test_the_interval_is_welchs_on_logarithms() -> None:
    base, new = [70.0, 71.0, 69.5], [64.0, 66.0, 65.0]
    found = compare(base, new, name="step_ms")
    logs = [[math.log(v) for v in values] for values in (new, base)]
    expected = stats.ttest_ind(*logs, equal_var=False).confidence_interval()
    assert (found.ratio, found.verdict) == (65.0 / 70.0, "better")
    assert (found.low, found.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))


@pytest.mark.parametrize(
    ("name", "base", "new", "verdict"),
    [
        ("step_ms", [70, 71, 69], [80, 81, 79], "worse"),
        ("tokens_per_s", [70, 71, 69], [80, 81, 79], "better"),
        ("tokens_per_s", [80, 81, 79], [70, 71, 69], "worse"),
        ("step_ms", [70, 70.1, 69.9], [70.2, 70.1, 70.3], "same"),  # shown to differ, by less than the margin
        ("step_ms", [60, 80, 70], [66, 88, 77], "unclear"),
        ("step_ms", [70], [140], "one run"),
        ("step_ms", [70, 70], [70, 70], "same"),
    ],
)
def test_verdicts(name: str, base: list[float], new: list[float], verdict: str) -> None:
    assert compare(base, new, name=name).verdict == verdict


def test_a_slower_step_is_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = folder(tmp_path / "base", [run(step, 900.0) for step in (70.0, 71.0, 69.0)])
    new = folder(tmp_path / "new", [run(step, 900.0, torch="2.12") for step in (80.0, 81.0, 79.0)])
    assert code(monkeypatch, base, new) == 1
    printed = capsys.readouterr().out
    assert "torch: 2.11, now 2.12" in printed
    assert "1 worse, 2 same" in printed
    assert code(monkeypatch, new, base) == 0


def test_another_card_is_refused_and_compared_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = folder(tmp_path / "base", [run(70.0, 900.0)])
    new = folder(tmp_path / "new", [run(60.0, 950.0, gpu="H200")])
    assert code(monkeypatch, base, new) == 2
    assert "gpu: H100, now H200" in capsys.readouterr().err
    assert code(monkeypatch, base, new, "--other-card") == 0
    assert "3 one run" in capsys.readouterr().out


def test_what_is_no_result_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = folder(tmp_path / "good", [run(70.0, 900.0)])
    (tmp_path / "torn.json").write_text('{"train":')
    (tmp_path / "empty").mkdir()
    (tmp_path / "facts.json").write_text('{"environment": {}}')
    for bad in ("torn.json", "missing.json", "empty", "facts.json"):
        assert code(monkeypatch, good, tmp_path / bad) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_only_what_both_measured_is_compared() -> None:
    more = run(70.0, 900.0) | {"gate": {"seconds": 5.0}}
    assert [row.name for row in compare_results([run(70.0, 900.0)], [more])] == [
        "train/step_ms",
        "train/tokens_per_s",
        "train/peak_gib",
    ]
