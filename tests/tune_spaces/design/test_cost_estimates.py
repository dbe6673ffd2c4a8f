"""What a plan costs, and what its items can show."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge_common.intervals import wilson
from bridge_common.trial_folder import TrialFolder
from ray_bridge import JobSpec, RunSpec, paper, paper_run, tiny, tiny_run
from tune_spaces.analysis.paired_tests import minimum_detectable_effect
from tune_spaces.design import cost_estimates
from tune_spaces.design.cost_estimates import CPU, GPU, CostModel

# 3 validations of 10 examples (the fourth would be at step 400) and three conditions of 50 test examples.
SHORT: dict[str, Any] = {"steps": 350, "eval_every": 100, "validation_examples": 10, "test_examples": 50}
ON_CPU = 20.0 + 350 * 0.35 + 0.03 * (3 * 10 + 3 * 50)
ON_GPUS = 35.0 + 350 * 0.9 + 0.25 * (3 * 10 + 3 * 50)


def trial(folder: Path, name: str, spec: JobSpec, run: RunSpec, seconds: float | None, **without: None) -> TrialFolder:
    made = TrialFolder(folder / name)
    made.begin({"spec": spec.model_dump(), "run": run.model_dump(), **without})
    if seconds is not None:
        made.write_result({"seconds": seconds})
    return made


def test_gpu_hours_count_every_worker() -> None:
    cost = CostModel(rates=GPU, factors={}).estimate(paper(), paper_run())
    assert cost.gpu_hours == pytest.approx(4 * cost.minutes / 60)


def test_without_a_finished_trial_the_estimate_is_rough() -> None:
    cost = CostModel.from_finished(tiny_run(), []).estimate(tiny(**SHORT), tiny_run())
    assert cost.minutes == pytest.approx(ON_CPU / 60)
    assert (cost.gpu_hours, cost.basis) == (0, "rough")
    cost = CostModel.from_finished(paper_run(), []).estimate(tiny(**SHORT), paper_run())
    assert cost.minutes == pytest.approx(ON_GPUS / 60)


def test_a_task_of_unknown_size_is_tested_on_a_thousand_items() -> None:
    spec = tiny(**{**SHORT, "task": "hotpotqa", "test_examples": None})
    cost = CostModel(rates=CPU, factors={}).estimate(spec, tiny_run())
    assert cost.minutes == pytest.approx((20.0 + 350 * 0.35 + 0.03 * (3 * 10 + 3 * 1000)) / 60)


def test_finished_trials_of_the_same_configuration_scale_the_estimate(tmp_path: Path) -> None:
    run = tiny_run()
    (tmp_path / "not-begun").mkdir()
    trials = [
        TrialFolder(tmp_path / "not-begun"),
        trial(tmp_path, "unfinished", tiny(**SHORT), run, None),
        trial(tmp_path, "more-workers", tiny(**SHORT), run.replace(workers=run.workers + 1), 7.0),
        trial(tmp_path, "on-gpus", tiny(**SHORT), run.replace(use_gpu=True), 7.0),
        trial(tmp_path, "no-run", tiny(**SHORT), run, 7.0),
        trial(tmp_path, "full-1", tiny(**{**SHORT, "steps": 700}), run, 2 * (ON_CPU + 350 * 0.35 + 0.03 * 4 * 10)),
    ]
    trials[4].begin({"spec": tiny(**SHORT).model_dump()})
    model = CostModel.from_finished(run, trials)
    cost = model.estimate(tiny(**SHORT), run)
    assert cost.minutes == pytest.approx(2 * ON_CPU / 60)
    assert cost.basis == "measured: full-1"
    assert model.estimate(tiny(**SHORT, bridge="resampler"), run).basis == "rough"
    assert CostModel.from_finished(run, trials[:5]).factors == {}


@pytest.mark.parametrize(
    ("task", "limit", "items"),
    [
        ("gsm8k", None, 1319),
        ("gsm8k", 200, 200),
        ("gsm8k", 5000, 1319),
        ("synthetic", None, 1000),
        ("synthetic", 5000, 5000),
        ("hotpotqa", None, None),
        ("hotpotqa", 300, 300),
    ],
)
def test_the_number_of_test_items(task: str, limit: int | None, items: int | None) -> None:
    assert cost_estimates.test_items(task, limit) == items


def test_what_the_gate_can_resolve_at_this_n() -> None:
    """80 % of draws at the stated distance have their whole interval above the boundary."""
    n = 1319
    truth = 0.70 + cost_estimates.gate_resolution(n, 0.70)
    draws = np.random.default_rng(0).binomial(n, truth, size=400)
    assert np.mean([wilson(int(k), n)[0] > 0.70 for k in draws]) == pytest.approx(0.8, abs=0.06)


def test_what_a_comparison_can_resolve_is_what_mcnemar_shows_with_80_percent_power() -> None:
    assert cost_estimates.comparison_resolution(1319) == minimum_detectable_effect(1319, 0.12)
    assert cost_estimates.comparison_resolution(1319, 0.3) == minimum_detectable_effect(1319, 0.3)
