"""Limits of time on a real Ray: what cannot end in time does not start, and what runs then is stopped and resumed."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from bridge_common.trial_folder import TrialFolder
from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.footprint import job_time
from tests.support.campaigns import DIRECT, PLACED, events, prepare, steps
from tests.support.command_line import call_here
from tests.support.local_jobs import run_job_on
from tests.support.ray_clusters import SMALL_STORE, free
from tests.support.waiting import wait_for
from tests.support.workers import on_two_workers
from tune_spaces.campaign import Campaign
from tune_spaces.design.phases import Phase
from tune_spaces.design.variants import full
from tune_spaces.ray_tune import experiment
from tune_spaces.ray_tune.nodes import live_nodes
from tune_spaces.records.limits import Limits
from tune_spaces.records.usage import TrialLog

pytestmark = pytest.mark.slow


def make(storage: Path) -> Campaign:
    """Return a campaign of one trial, which is estimated to take 20 seconds."""
    base = tiny(steps=0, validation_examples=1, test_examples=1)
    return Campaign(Phase(name="one", goal="g", first=(full(),)), base, tiny_run(), storage=storage, name="c")


def reached_once(condition: Callable[[], object], reason: str) -> Limits:
    """Return a limit of time that is an hour away until a condition holds, and is reached then."""
    limits = Limits(until=time.time() + 3600)

    def reach() -> None:
        wait_for(condition, 120, reason)
        object.__setattr__(limits, "until", time.time())

    threading.Thread(target=reach, daemon=True).start()
    return limits


def test_nothing_starts_that_cannot_end_in_time(tmp_path: Path, connected_ray: Any) -> None:
    prepare(tmp_path, {"full": 0.7})
    campaign = make(tmp_path)
    policy = campaign.run(DIRECT, limits=Limits(until=time.time() + 10))
    assert not policy.finished
    assert events(tmp_path, "start") == []
    schedule = campaign.records.schedule()
    assert schedule is not None
    assert "takes about 0 minutes and would end after" in schedule["limit"]


def test_what_runs_at_the_time_stops_and_goes_on_later(tmp_path: Path, connected_ray: Any) -> None:
    prepare(tmp_path, {"full": 0.7}, steps=1000, pause=0.2)
    campaign = make(tmp_path)
    limits = reached_once(lambda: len(steps(tmp_path, "full")) >= 2, "it works")
    given = limits.until
    policy = campaign.run(DIRECT, limits=limits)
    assert limits.until is not None
    assert limits.until <= time.time() < limits.until + 30
    assert not policy.finished
    done = len(steps(tmp_path, "full"))
    assert done >= 2
    schedule = campaign.records.schedule()
    assert schedule is not None
    assert "is reached" in schedule["limit"]
    assert files.read_json(campaign.records.campaign_file)["starts"][-1]["limits"]["until"] == given
    prepare(tmp_path, {"full": 0.7}, steps=done + 1)
    assert make(tmp_path).run(DIRECT).finished
    assert steps(tmp_path, "full") == list(range(done + 1)), "it ended after a whole step"


def test_a_job_that_does_not_listen_is_stopped_after_a_while(
    tmp_path: Path, connected_ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "CHECKPOINT_WITHIN", 3.0)
    prepare(tmp_path, {"full": 0.7}, steps=1000, pause=0.2, deaf=True)
    campaign = make(tmp_path)
    limits = reached_once(lambda: steps(tmp_path, "full"), "it works")
    policy = campaign.run(DIRECT, limits=limits)
    assert limits.until is not None
    assert time.time() >= limits.until + 3
    assert not policy.finished
    assert campaign.trial(next(iter(campaign.plan.trials))).events()[-1]["status"] == "KILLED"


def test_a_stopped_job_writes_a_checkpoint_and_ends_as_if_undisturbed(tmp_path: Path, connected_ray: Any) -> None:
    """The embedded pair on two workers, stopped in training: the same samples and weights, byte for byte.

    The undisturbed job runs on two workers without Ray, which start sooner.
    """
    base = tiny(steps=16, warmup_steps=1, eval_every=8, validation_examples=4, test_examples=8, train_examples=64)
    run = tiny_run(workers=2, cpus_per_worker=0.5, checkpoint_every=1000)
    campaign = Campaign(Phase(name="one", goal="g", first=(full(),)), base, run, storage=tmp_path, name="c")
    (planned,) = campaign.plan.trials.values()
    trial, whole = campaign.trial(planned.name), tmp_path / "whole"
    on_two_workers(run_job_on, planned.spec, run, whole)

    limits = reached_once(lambda: len(_steps(trial.events())) >= 5, "it trains")
    assert not campaign.run(limits=limits).finished
    stopped = _steps(trial.events())
    assert 5 <= max(stopped) < 16
    (checkpoint,) = (trial.path / "train").glob("checkpoint_0*")
    assert int(checkpoint.name.removeprefix("checkpoint_")) == max(stopped), "of the last step, and no other"
    assert not trial.error()

    assert campaign.run().finished
    for file in ("samples.jsonl", "selected/translator.safetensors"):
        assert (trial.path / file).read_bytes() == (whole / file).read_bytes()
    assert _steps(trial.events()) == list(range(1, 17)), "no step was done twice"


def _steps(events: list[dict[str, Any]]) -> list[int]:
    return [event["step"] for event in events if event["kind"] == "metrics" and "loss/total" in event["values"]]


def test_gpu_hours_end_a_campaign_and_a_higher_limit_continues_it(
    storage: Path, connected_ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command: 2 fake GPUs for as long as the plan's estimate are a limit that the estimate just fits."""
    rates = replace(job_time.rates_of("H100")[0], start=5.0, call=0.0, question=0.0, decode_step=0.0)
    monkeypatch.setattr(job_time, "rates_of", lambda card: (rates, None))
    node = connected_ray.add_node(num_cpus=1, num_gpus=2, **SMALL_STORE)
    try:
        prepare(storage, {"full": 0.72}, steps=1000, pause=0.2)
        sizes = ("steps=0", "validation_examples=1", "test_examples=1", "workers=2", "use_gpu=true")
        settings = [f"--set={name}" for name in (*sizes, "cpus_per_worker=0.5")]

        def started(limit: str, code: int) -> str:
            options = ("--storage", str(storage), "--job", PLACED, *settings, "--skip-preflight")
            done = call_here("phase1", *options, "--max-gpu-hours", limit, RAY_ADDRESS=connected_ray.address)
            assert done.returncode == code, done.stdout + done.stderr
            return next((line for line in reversed(done.stdout.splitlines()) if "limit: " in line), "")

        assert "full-" in started("0.002", 1)
        assert not events(storage, "start"), "what would exceed it does not start"
        seconds = 60 * files.read_json(storage / "phase1-tiny" / "plan.json")["trials"][0]["minutes"]
        limit = f"{1.005 * 2 * seconds / 3600:.5f}"
        assert f"of {float(limit):g} GPU-hours are used" in started(limit, 1)
        done = steps(storage, "full")
        assert events(storage, "end") == []
        trial = next(path.parent for path in storage.glob("phase1-tiny/trials/*/events.jsonl"))
        log = TrialLog(TrialFolder(trial)).read()
        assert log.status == "KILLED"
        assert seconds <= log.seconds() < seconds + 12, "GPU-hours count from the start of the job to its end"
        wait_for(lambda: free("GPU") == 2, 10, "its GPUs are free")
        prepare(storage, {"full": 0.72}, steps=len(done) + 1)
        started("1", 0)
        assert steps(storage, "full") == list(range(len(done) + 1))
    finally:
        connected_ray.remove_node(node, allow_graceful=False)
        wait_for(lambda: len(live_nodes()) == 1, 60, "the other tests find the head alone")
