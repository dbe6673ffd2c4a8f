"""A whole job in one process: the same numbers on any number of workers, for any batch, after any kill."""

import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import ray_bridge
from bridge_common.errors import UserError
from bridge_common.files import read_json, read_jsonl, read_log, write_jsonl
from bridge_common.heartbeat import LOADING, Heartbeat
from bridge_common.metric_names import CONDITIONS
from bridge_common.trial_folder import TrialFolder
from ray_bridge.bridges.translator import build_translator
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.presets import tiny_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.evaluation.selection import load_selected
from ray_bridge.model_pair import ModelPair
from ray_bridge.tasks.splits import load_splits
from ray_bridge.training.session import LocalSession
from ray_bridge.training.startup_timer import StartupTimer
from ray_bridge.training.trainer import Trainer
from tests.support.local_jobs import recorded, run_job, run_job_on
from tests.support.workers import on_workers, started


def evaluate(
    spec: JobSpec, folder: Path, *, batch_size: int, worker: Worker | None = None, cache: Path | None = None
) -> list[dict[str, Any]]:
    """Samples of the checkpoint that a finished job selected, reloaded from disk."""
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device("cpu"))
    translator = build_translator(spec, pair.source, pair.target)
    load_selected(folder / "selected", translator)
    evaluator = Evaluator(pair.for_evaluation(), worker or Worker(), batch_size, NodeCache(cache))
    return evaluator.evaluate(splits.test, translator.double(), CONDITIONS)


def test_samples_hold_every_condition_and_metrics_follow_from_them(finished: Path) -> None:
    samples, metrics = read_jsonl(finished / "samples.jsonl"), read_json(finished / "metrics.json")
    assert [row["index"] for row in samples] == list(range(13))
    for condition in CONDITIONS:
        correct = sum(row[f"{condition}_correct"] for row in samples)
        assert metrics[f"accuracy/{condition}"] == correct / 13
        low, high = metrics[f"accuracy_low/{condition}"], metrics[f"accuracy_high/{condition}"]
        assert low <= correct / 13 <= high
        assert {f"{condition}_{part}" for part in ("output", "answer", "valid", "tokens", "flexible")} <= set(
            samples[0]
        )
    for name, baseline in (("gain", "target_alone"), ("information", "shuffled_soft")):
        assert metrics[name] == (metrics["correct/bridged"] - metrics[f"correct/{baseline}"]) / 13
    assert {row["words"] for row in samples} == {"none", "seen", "transfer"}


def test_controls_differ_from_bridged_and_from_each_other(finished: Path) -> None:
    samples = read_jsonl(finished / "samples.jsonl")
    texts = {c: [row[f"{c}_output"] for row in samples] for c in CONDITIONS}
    assert len({tuple(value) for value in texts.values()}) == len(CONDITIONS)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_samples_do_not_depend_on_the_batch_and_reloading_reproduces_them(
    spec: JobSpec, finished: Path, batch_size: int
) -> None:
    assert evaluate(spec, finished, batch_size=batch_size) == read_jsonl(finished / "samples.jsonl")


def evaluate_share(worker: Worker, spec: JobSpec, finished: Path, out: Path) -> None:
    write_jsonl(out / f"{worker.rank}.jsonl", evaluate(spec, finished, batch_size=3, worker=worker))


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_samples_are_the_same_bytes_on_more_workers(world: int, spec: JobSpec, finished: Path, tmp_path: Path) -> None:
    on_workers(world, evaluate_share, spec, finished, tmp_path)
    expected = (finished / "samples.jsonl").read_bytes()
    assert [(tmp_path / f"{rank}.jsonl").read_bytes() for rank in range(world)] == [expected] * world


@pytest.mark.slow
def test_a_job_on_four_workers_has_the_same_samples(spec: JobSpec, finished: Path, tmp_path: Path) -> None:
    """Gradients add up in another order, so weights may differ in their last bits; texts and verdicts do not."""
    on_workers(4, run_job_on, spec, tiny_run(workers=4, checkpoint_every=2), tmp_path)
    assert (tmp_path / "samples.jsonl").read_bytes() == (finished / "samples.jsonl").read_bytes()
    made, one = (load_file(folder / "selected" / "translator.safetensors") for folder in (tmp_path, finished))
    for name, weights in one.items():
        torch.testing.assert_close(made[name], weights, rtol=1e-3, atol=1e-5)


def test_the_same_spec_and_seed_give_the_same_job_and_another_seed_another(
    spec: JobSpec, finished: Path, tmp_path: Path
) -> None:
    run_job(spec, tmp_path / "again", eval_batch_size=5)
    run_job(spec.replace(seed=1), tmp_path / "other")
    again, other, first = (recorded(folder) for folder in (tmp_path / "again", tmp_path / "other", finished))
    assert again == first
    assert other != first


@pytest.mark.slow
def test_a_killed_job_resumes_bit_for_bit(spec: JobSpec, finished: Path, tmp_path: Path) -> None:
    moments = random.Random(time.time_ns())
    kills = 0
    while kills < 3:
        job = started(run_job, spec, tmp_path, checkpoint_every=3)
        goal = moments.randrange(1, 12)
        while job.exitcode is None and _steps(tmp_path) < goal:
            time.sleep(0.005)
        job.kill()
        job.join()
        kills += 1
    last = started(run_job, spec, tmp_path, checkpoint_every=3)
    last.join()
    assert last.exitcode == 0
    assert recorded(tmp_path) == recorded(finished)


def _steps(folder: Path) -> int:
    path = folder / "events.jsonl"
    return max((e["step"] for e in read_log(path) if e["kind"] == "metrics"), default=0)


def test_the_selected_checkpoint_is_the_best_not_the_last(spec: JobSpec, finished: Path) -> None:
    chosen = read_json(finished / "selected" / "selected.json")
    events = [e for e in read_log(finished / "events.jsonl") if e["kind"] == "metrics"]
    validation = {
        e["step"]: e["values"]["validation/accuracy/bridged"]
        for e in events
        if "validation/accuracy/bridged" in e["values"]
    }
    assert list(validation) == [0, 4, 8, 12]
    assert "validation/accuracy/bridged" in events[0]["values"], "first: MLflow's compare page opens on it"
    assert {"fast/source/fused", "fast/target/kernels", "geometry/pairs", "whitening/rows"} <= {
        name for e in events for name in e["values"]
    }
    assert chosen["validation_accuracy"] == max(validation.values())
    assert validation[chosen["step"]] == chosen["validation_accuracy"]


def test_every_term_and_its_gradient_norm_are_recorded(finished: Path) -> None:
    events = [e for e in read_log(finished / "events.jsonl") if e["kind"] == "metrics"]
    steps = {e["step"]: e["values"] for e in events if "loss/total" in e["values"]}
    assert list(steps) == list(range(1, 13))
    terms = {"answer_nll", "answer_kl", "prompt_alignment", "flow", "contrast"}
    for step, values in steps.items():
        assert {f"loss/{term}" for term in terms} <= set(values)
        measured = {term for term in terms if f"grad_norm/{term}" in values}
        assert measured == (terms if step % 4 == 0 else set())
        assert all(values[f"grad_norm/{term}"] > 0 for term in measured)


def test_a_job_that_is_asked_to_stop_writes_a_checkpoint_and_goes_on_from_it(
    spec: JobSpec, finished: Path, tmp_path: Path
) -> None:
    trial, stops = TrialFolder(tmp_path), 0
    trial.request_stop()
    while run_job(spec, tmp_path, checkpoint_every=1000) is None:
        stops += 1
        assert [path.name for path in (tmp_path / "local").iterdir()] == [f"checkpoint-{stops:06d}"]
        trial.request_stop() if stops < 3 else trial.begin({})
    assert stops == 3
    assert recorded(tmp_path) == recorded(finished)


@pytest.mark.parametrize("torn", [["2"], ["1", "2"]])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before_it_or_the_start(
    spec: JobSpec, finished: Path, tmp_path: Path, torn: list[str]
) -> None:
    trial, kept = TrialFolder(tmp_path), tmp_path / "local" / "checkpoint-000001"
    for _ in range(2):
        trial.request_stop()
        assert run_job(spec, tmp_path, checkpoint_every=1000) is None
        if not (tmp_path / "copy").exists():
            shutil.copytree(kept, tmp_path / "copy")
    (tmp_path / "copy").rename(kept)
    for step in torn:
        state = tmp_path / "local" / f"checkpoint-00000{step}" / "state.pt"
        os.truncate(state, state.stat().st_size // 2)
    trial.begin({})
    run_job(spec, tmp_path, checkpoint_every=1000)
    assert recorded(tmp_path) == recorded(finished)


@pytest.mark.parametrize("damage", ["empty", "half", "a row is missing"])
def test_damaged_cached_answers_are_decoded_again(spec: JobSpec, finished: Path, tmp_path: Path, damage: str) -> None:
    whole = {path.name: path.read_bytes() for path in (finished / "cache").glob("*_alone-*.jsonl")}
    assert whole
    for name, data in whole.items():
        rows = data.splitlines(keepends=True)
        left = {"empty": b"", "half": data[: len(data) // 2], "a row is missing": b"".join(rows[:-1])}[damage]
        (tmp_path / name).write_bytes(left)
    samples = evaluate(spec, finished, batch_size=64, cache=tmp_path)
    assert samples == read_jsonl(finished / "samples.jsonl")
    written = {name: (tmp_path / name).read_bytes() for name in whole}
    assert written == whole


def test_a_run_that_does_not_fit_its_job_is_refused_before_ray_starts(spec: JobSpec, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="use a multiple of 3"):
        ray_bridge.run_job(spec, tiny_run(workers=3), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_each_stage_of_startup_is_recorded(spec: JobSpec, tmp_path: Path) -> None:
    session = LocalSession(tmp_path)
    start = StartupTimer(time.time() - 5)
    start.done("imports")
    result = Trainer(spec, tiny_run(workers=1), tmp_path, session, tmp_path / "cache", start).run()
    startup_events = [
        e for e in read_log(tmp_path / "events.jsonl") if e.get("step") == 0 and "start/launch" in e["values"]
    ]
    assert len(startup_events) == 1
    values = dict(startup_events[0]["values"])
    total = values.pop("start/seconds_to_first_step")
    assert list(values) == [
        f"start/{part}"
        for part in ("launch", "imports", "models", "translator", "frozen_states", "statistics", "validation")
    ]
    assert values["start/launch"] >= 5
    assert values["start/models"] > 0
    assert sum(values.values()) == pytest.approx(total, abs=0.01)
    assert result["startup_seconds"] == pytest.approx(total, abs=0.001)
    again = Trainer(
        spec, tiny_run(workers=1), tmp_path, session, tmp_path / "cache", StartupTimer(time.time() - 1000)
    ).run()
    assert again["startup_seconds"] < 1000  # what went on from a checkpoint counts its own process alone


def test_loading_preparing_training_and_evaluating_give_signs_of_life(spec: JobSpec, tmp_path: Path) -> None:
    signs: list[str] = []

    class Heard(Heartbeat):
        def sign(self, doing: str) -> None:
            signs.append(doing)

    alive = Heard(None)
    start = StartupTimer(on_stage=lambda: alive.sign(LOADING))
    Trainer(
        spec, tiny_run(workers=1, eval_batch_size=4), tmp_path, LocalSession(tmp_path), tmp_path / "cache", start, alive
    ).run()
    assert signs[:2] == [LOADING, LOADING], "models and translator"
    first = {doing: signs.index(doing) for doing in ("frozen states", "statistics", "evaluation", "training")}
    assert sorted(first, key=lambda doing: first[doing]) == list(first)
    assert signs.count("training") == spec.steps
    after = signs[len(signs) - signs[::-1].index("training") :]
    assert after.count("evaluation") >= len(CONDITIONS) * -(-13 // 4), "each batch of the test items"
