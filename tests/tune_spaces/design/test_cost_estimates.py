"""What a plan costs, and what its items can show."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge_common.intervals import wilson
from bridge_common.trial_folder import TrialFolder
from ray_bridge import JobSpec, RunSpec, TimeEstimator, paper, paper_run, tiny, tiny_run
from tune_spaces.analysis.paired_tests import minimum_detectable_effect
from tune_spaces.design import cost_estimates, phases
from tune_spaces.design.cost_estimates import CostModel
from tune_spaces.design.search import Axis
from tune_spaces.design.sweep import sweep
from tune_spaces.design.variants import full

SHORT: dict[str, Any] = {"steps": 350, "eval_every": 100, "validation_examples": 10, "test_examples": 50}
MODEL = TimeEstimator()


def trial(folder: Path, name: str, spec: JobSpec, run: RunSpec, seconds: float | None, **more: Any) -> TrialFolder:
    """Return a trial's folder; `seconds` is all that it took, unless `more` says what else."""
    made = TrialFolder(folder / name)
    made.begin({"spec": spec.model_dump(), "run": run.model_dump()})
    if seconds is not None:
        made.write_result(
            {"metrics": {}, "seconds": seconds, **({"start_seconds": 0.0, "evaluation_seconds": 0.0} | more)}
        )
    return made


def test_gpu_hours_count_every_worker() -> None:
    cost = CostModel().estimate(paper(), paper_run())
    assert cost.gpu_hours == pytest.approx(4 * cost.minutes / 60)
    assert CostModel().estimate(tiny(), tiny_run()).gpu_hours == 0


def test_without_a_finished_trial_the_model_alone_tells() -> None:
    model = CostModel.from_finished(tiny_run(), [])
    cost = model.estimate(tiny(**SHORT), tiny_run())
    assert cost.minutes == pytest.approx(MODEL.estimate(tiny(**SHORT), tiny_run()).seconds / 60)
    assert cost.basis == "model"
    assert model.record() == {"card": None, "finished": 0, "median_error": None, "largest_error": None}


def test_finished_trials_of_the_same_configuration_correct_the_estimate(tmp_path: Path) -> None:
    run, spec = tiny_run(), tiny(**SHORT)
    longer = spec.replace(steps=700)
    (tmp_path / "not-begun").mkdir()
    trials = [
        TrialFolder(tmp_path / "not-begun"),
        trial(tmp_path, "unfinished", spec, run, None),
        trial(tmp_path, "on-gpus", spec, run.replace(use_gpu=True), 7.0),
        trial(tmp_path, "reused", spec, run, 7.0, reused_from="elsewhere"),
        trial(tmp_path, "resumed", spec, run, 7.0, training_seconds=70.0),
        trial(tmp_path, "no-run", spec, run, 7.0),
        trial(tmp_path, "full-1", longer, run, 2 * MODEL.estimate(longer, run).seconds),
    ]
    trials[5].begin({"spec": spec.model_dump()})
    model = CostModel.from_finished(run, trials)
    cost = model.estimate(spec, run)
    assert cost.minutes == pytest.approx(2 * MODEL.estimate(spec, run).seconds / 60)
    assert cost.basis == "model, corrected by 1 like it"
    other = model.estimate(spec.replace(bridge="resampler"), run)
    assert other.basis == "model, corrected by 1 others"
    assert other.minutes == pytest.approx(2 * other.time.seconds / 60)
    assert CostModel.from_finished(run, trials[:6]).finished == []


def test_fewer_workers_correct_it_too_since_the_model_counts_them(tmp_path: Path) -> None:
    spec, one = tiny(**SHORT), tiny_run(workers=1)
    model = CostModel.from_finished(
        tiny_run(), [trial(tmp_path, "a", spec, one, 3 * MODEL.estimate(spec, one).seconds)]
    )
    assert model.estimate(spec, tiny_run()).minutes == pytest.approx(3 * MODEL.estimate(spec, tiny_run()).seconds / 60)


def test_a_trial_whose_plug_in_is_not_here_is_left_out(tmp_path: Path) -> None:
    made = trial(tmp_path, "own", tiny(**SHORT), tiny_run(), 7.0)
    record = made.spec() or {}
    made.begin({**record, "spec": {**record["spec"], "bridge": "not_here:Bridge", "plugins": ["not_here"]}})
    assert CostModel.from_finished(tiny_run(), [made]).finished == []


def test_old_results_tell_the_training_alone(tmp_path: Path) -> None:
    spec, run = tiny(**SHORT), tiny_run()
    time = MODEL.estimate(spec, run)
    made = trial(tmp_path, "old", spec, run, None)
    made.write_result({"metrics": {}, "seconds": 2 * (time.seconds - time.parts["start"] - time.parts["test"])})
    assert CostModel.from_finished(run, [made]).finished[0].ratio == pytest.approx(2)


def test_the_error_on_known_trials_is_of_each_estimated_by_the_others(tmp_path: Path) -> None:
    spec, run = tiny(**SHORT), tiny_run()
    seconds = MODEL.estimate(spec, run).seconds
    trials = [
        trial(tmp_path, f"full-{i}", spec.replace(seed=i), run, k * seconds) for i, k in enumerate((1.0, 1.0, 4.0))
    ]
    model = CostModel.from_finished(run, trials)
    assert model.errors() == pytest.approx([1.0, 1.0, -0.75])
    assert model.record() == {"card": None, "finished": 3, "median_error": 1.0, "largest_error": 1.0}


def test_the_card_is_that_of_the_finished_trials(tmp_path: Path) -> None:
    spec, run = paper(), paper_run()
    trials = [
        trial(tmp_path, name, spec, run, 900.0, gpu=gpu)
        for name, gpu in (
            ("a", "NVIDIA A100-SXM4-80GB"),
            ("b", "NVIDIA A100-SXM4-80GB"),
            ("c", "NVIDIA H100 80GB HBM3"),
        )
    ]
    model = CostModel.from_finished(run, trials)
    assert model.record()["card"] == "NVIDIA A100-SXM4-80GB"
    assert [one.name for one in model.finished] == ["a", "b"], "times of another card correct nothing"
    assert "rates of NVIDIA A100 follow from its data sheet" in model.estimate(spec, run).time.notes


def test_what_the_gate_can_resolve_at_this_n() -> None:
    """80 % of draws at the stated distance have their whole interval above the boundary."""
    n = 1319
    truth = 0.70 + cost_estimates.gate_resolution(n, 0.70)
    draws = np.random.default_rng(0).binomial(n, truth, size=400)
    assert np.mean([wilson(int(k), n)[0] > 0.70 for k in draws]) == pytest.approx(0.8, abs=0.06)


def test_what_a_comparison_can_resolve_is_what_mcnemar_shows_with_80_percent_power() -> None:
    assert cost_estimates.comparison_resolution(1319) == minimum_detectable_effect(1319, 0.12)
    assert cost_estimates.comparison_resolution(1319, 0.3) == minimum_detectable_effect(1319, 0.3)


def test_what_a_comparison_of_a_family_can_resolve_is_at_the_corrections_first_step() -> None:
    alone, family = (cost_estimates.comparison_resolution(1319, comparisons=count) for count in (1, 8))
    assert family == minimum_detectable_effect(1319, 0.12, alpha=0.05 / 8)
    assert alone is not None
    assert family is not None
    assert family > 1.25 * alone


def test_the_family_is_that_of_the_plans_questions_or_of_all_pairs_or_a_sweep() -> None:
    base = tiny()
    sizes = {name: cost_estimates.family_size(phases.PHASES[name](base)) for name in ("phase1", "phase2", "phase3")}
    assert sizes == {"phase1": 2, "phase2": 3, "phase3": 9}
    assert cost_estimates.family_size(phases.phase3(paper())) == 8, "one K fewer"
    assert cost_estimates.family_size(phases.ablate(base)) == 10, "full and four others"
    assert cost_estimates.family_size(phases.ablate(base, ["factorial"])) == 15, "16 variants are a sweep"
    assert cost_estimates.family_size(phases.Phase(name="p", goal="g", first=(full(),))) == 1
    search = sweep(base, [Axis(field="soft_tokens", values=tuple(range(1, 40)))], search="optuna", trials=12)
    assert cost_estimates.family_size(search) == 11
