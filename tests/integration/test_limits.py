"""Limits of time on a real Ray: what cannot end in time does not start, and what runs then is stopped and resumed."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from bridge_common.trial_folder import TrialFolder
from ray_bridge.config.presets import tiny, tiny_run
from tests.support.campaigns import DIRECT, PLACED, driver, driver_log, events, prepare, steps
from tests.support.ray_clusters import SMALL_STORE, free
from tests.support.waiting import wait_for
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
    until = time.time() + 30
    policy = campaign.run(DIRECT, limits=Limits(until=until))
    assert until <= time.time() < until + 30
    assert not policy.finished
    done = len(steps(tmp_path, "full"))
    assert done
    schedule = campaign.records.schedule()
    assert schedule is not None
    assert "is reached" in schedule["limit"]
    assert files.read_json(campaign.records.campaign_file)["starts"][-1]["limits"]["until"] == until
    prepare(tmp_path, {"full": 0.7}, steps=done + 1)
    assert make(tmp_path).run(DIRECT).finished
    assert steps(tmp_path, "full") == list(range(done + 1)), "it ended after a whole step"


def test_a_job_that_does_not_listen_is_stopped_after_a_while(
    tmp_path: Path, connected_ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "CHECKPOINT_WITHIN", 3.0)
    prepare(tmp_path, {"full": 0.7}, steps=1000, pause=0.2, deaf=True)
    campaign = make(tmp_path)
    policy = campaign.run(DIRECT, limits=Limits(until=time.time() + 25))
    assert not policy.finished
    assert campaign.trial(next(iter(campaign.plan.trials))).events()[-1]["status"] == "KILLED"


def test_a_stopped_job_writes_a_checkpoint_and_ends_as_if_undisturbed(tmp_path: Path, connected_ray: Any) -> None:
    """The embedded pair on two workers, stopped in training: the same samples and weights, byte for byte."""
    base = tiny(steps=24, warmup_steps=1, eval_every=8, validation_examples=4, test_examples=8, train_examples=64)
    run = tiny_run(workers=2, cpus_per_worker=0.5, checkpoint_every=1000)
    phase = Phase(name="one", goal="g", first=(full(),))
    whole, parts = (Campaign(phase, base, run, storage=tmp_path / name, name="c") for name in ("whole", "parts"))
    (name,) = whole.plan.trials
    assert whole.run().finished

    limits = Limits(until=time.time() + 3600)

    def reach_in_training() -> None:
        wait_for(lambda: len(_steps(parts.trial(name).events())) >= 5, 120, "it trains")
        object.__setattr__(limits, "until", time.time())

    threading.Thread(target=reach_in_training, daemon=True).start()
    assert not parts.run(limits=limits).finished
    stopped = _steps(parts.trial(name).events())
    assert 5 <= max(stopped) < 24
    (checkpoint,) = (parts.trial(name).path / "train").glob("checkpoint_0*")
    assert int(checkpoint.name.removeprefix("checkpoint_")) == max(stopped), "of the last step, and no other"
    assert not parts.trial(name).error()

    assert parts.run().finished
    for file in ("samples.jsonl", "selected/translator.safetensors"):
        own, other = (campaign.trial(name).path / file for campaign in (parts, whole))
        assert own.read_bytes() == other.read_bytes()
    speeds = [e for e in parts.trial(name).events() if e["kind"] == "metrics" and "loss/total" in e["values"]]
    assert [event["step"] for event in speeds] == list(range(1, 25)), "no step was done twice"


def _steps(events: list[dict[str, Any]]) -> list[int]:
    return [event["step"] for event in events if event["kind"] == "metrics" and "loss/total" in event["values"]]


def test_gpu_hours_end_a_campaign_and_a_higher_limit_continues_it(tmp_path: Path, connected_ray: Any) -> None:
    """The command: 2 fake GPUs for as long as the plan's estimate are a limit that the estimate just fits."""
    node = connected_ray.add_node(num_cpus=1, num_gpus=2, **SMALL_STORE)
    try:
        prepare(tmp_path, {"full": 0.72}, steps=1000, pause=0.2)
        sizes = ("steps=0", "validation_examples=1", "test_examples=1", "workers=2", "use_gpu=true")
        settings = [f"--set={name}" for name in (*sizes, "cpus_per_worker=0.5")]
        options = (*settings, "--skip-preflight", "--max-gpu-hours")

        def ended_by(limit: str) -> str:
            process = driver(tmp_path, *options, limit, job=PLACED, address=connected_ray.address)
            assert process.wait(240) == 1, driver_log(tmp_path)
            return next(line for line in reversed(driver_log(tmp_path).splitlines()) if "limit: " in line)

        assert "full-" in ended_by("0.019")
        assert not events(tmp_path, "start"), "what would exceed it does not start"
        seconds = 60 * files.read_json(tmp_path / "phase1-tiny" / "plan.json")["trials"][0]["minutes"]
        limit = f"{1.005 * 2 * seconds / 3600:.4f}"
        assert f"of {limit} GPU-hours are used" in ended_by(limit)
        done = steps(tmp_path, "full")
        assert events(tmp_path, "end") == []
        trial = next(path.parent for path in tmp_path.glob("phase1-tiny/trials/*/events.jsonl"))
        log = TrialLog(TrialFolder(trial)).read()
        assert log.status == "KILLED"
        assert seconds <= log.seconds() < seconds + 12, "GPU-hours count from the start of the job to its end"
        wait_for(lambda: free("GPU") == 2, 10, "its GPUs are free")
        prepare(tmp_path, {"full": 0.72}, steps=len(done) + 1)
        process = driver(tmp_path, *options, "1", job=PLACED, address=connected_ray.address)
        assert process.wait(100) == 0, driver_log(tmp_path)
        assert steps(tmp_path, "full") == list(range(len(done) + 1))
    finally:
        connected_ray.remove_node(node, allow_graceful=False)
        wait_for(lambda: len(live_nodes()) == 1, 60, "the other tests find the head alone")
