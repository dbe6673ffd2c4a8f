"""The figures of a long campaign, from samples and folders whose growth is known."""

import os
import random
from pathlib import Path

import pytest

from benchmarks.long_run import NAME, by_trial, slope, summary
from bridge_common import files


def test_a_slope_has_an_interval_that_holds_it() -> None:
    draw = random.Random(0)
    x = list(range(200))
    found = slope(x, [5 + 0.3 * value + draw.gauss(0, 1) for value in x])
    assert found["low"] < 0.3 < found["high"]
    assert found["high"] - found["low"] < 0.02
    level = slope(x, [draw.gauss(100, 1) for _ in x])
    assert level["low"] < 0 < level["high"]


def test_samples_are_taken_together_by_finished_trials() -> None:
    samples = [{"trials": n // 3, "roles": {"driver": {"threads": float(n)}}} for n in range(9)]
    samples.append({"trials": 3, "roles": {}})
    assert by_trial(samples, "driver", "threads") == ([0, 1, 2], [1.0, 4.0, 7.0])


def test_growth_seconds_and_bytes_a_trial(tmp_path: Path) -> None:
    trials = 40
    for n in range(trials):
        folder = tmp_path / NAME / "trials" / f"t{n:02d}"
        files.write_text(folder / "events.jsonl", "x" * 100)
        files.write_text(folder / "result.json", "{}")
        os.utime(folder / "result.json", (1000 + 2 * n, 1000 + 2 * n))
    (tmp_path / "mlflow.db").write_bytes(bytes(4000))
    seen = [{"memory_mib": 100 + 0.5 * n, "handles": 20.0, "threads": 9.0} for n in range(trials + 1)]
    samples = [{"time": 1000 + n, "trials": n, "roles": {"driver": one}} for n, one in enumerate(seen)]
    found = summary(samples, tmp_path, trials)
    assert found["processes"]["driver"]["memory_mib"]["slope"] == pytest.approx(0.5)
    assert found["processes"]["driver"]["memory_mib"]["last"] == 119.5
    assert found["processes"]["driver"]["handles"]["slope"] == pytest.approx(0, abs=1e-6)
    assert found["seconds_a_trial"]["first_half"] == found["seconds_a_trial"]["second_half"] == 2
    assert found["bytes_a_trial"] == {"events": 100, "folder": 102, "database": 100}
    with pytest.raises(ValueError, match="run more of them"):
        summary(samples[:3] + samples[-1:], tmp_path, 3)
