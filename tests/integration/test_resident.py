"""`resident=true`: a campaign's trials, one after another, on workers that stay with their models loaded."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import ray_bridge
from bridge_common import heartbeat
from bridge_common.trial_folder import TrialFolder
from ray_bridge import tiny, tiny_run
from tests.support.local_jobs import recorded, run_job
from tests.support.ray_clusters import ENVIRONMENT, ROOT
from tests.support.waiting import wait_for
from tune_spaces.campaign import Campaign
from tune_spaces.design.phases import Phase
from tune_spaces.design.variants import Variant
from tune_spaces.ray_tune.stalls import StallWatch

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("connected_ray")]
BASE = tiny(
    **{"steps": 4, "eval_every": 2, "warmup_steps": 1, "batch_size": 4, "max_new_tokens": 8, "hidden_size": 16},
    **{"train_examples": 40, "validation_examples": 2, "test_examples": 4, "num_heads": 2, "depth": 1},
    **{"decode_questions": 2, "decode_samples": 2, "eval_dtype": "as_trained"},
)


def campaign(storage: Path, variants: dict[str, dict[str, Any]], base: Any = BASE, **run: Any) -> Campaign:
    first = tuple(Variant(name=name, changes=changes) for name, changes in variants.items())
    run = {"resident": True, "workers": 1, "checkpoint_every": 2} | run
    return Campaign(Phase(name="few", goal="g", first=first), base, tiny_run(**run), storage=storage, name="c")


def folders(campaign: Campaign) -> dict[str, TrialFolder]:
    return {planned.variant: campaign.trial(name) for name, planned in campaign.plan.trials.items()}


def workers(trial: TrialFolder) -> dict[str, int]:
    return {beat.name: beat.pid for beat in heartbeat.beats(trial.path) if beat.rank is not None}


def test_trials_share_their_workers_and_have_the_numbers_of_workers_of_their_own(tmp_path: Path) -> None:
    changes = {"full": {}, "adapter": {"injection": "adapter"}, "fails": {"learning_rate": 1e18, "clip_norm": 1e18}}
    ran = campaign(tmp_path / "storage", changes | {"unaligned": {"kl_alignment": False}})
    ran.run(parallel=1)
    trials = folders(ran)
    error = trials["fails"].error()
    assert error is not None
    assert error["error"].startswith("training diverged at step ")
    assert error["refused"]
    pids = {name: workers(trial)["rank-0"] for name, trial in trials.items()}
    assert pids["full"] == pids["adapter"] == pids["fails"]
    assert pids["unaligned"] != pids["full"], "a failure ends its workers"
    for name in ("full", "adapter", "unaligned"):
        spec = next(planned.spec for planned in ran.plan.trials.values() if planned.variant == name)
        alone = tmp_path / "alone" / name
        metrics = run_job(spec, alone, checkpoint_every=2)["metrics"]  # type: ignore[index]
        result = trials[name].result()
        assert result is not None
        assert result["metrics"] == metrics, name
        assert recorded(trials[name].path) == recorded(alone), name
        assert sorted(path.name for path in (trials[name].path / "train").glob("checkpoint_*")) == [
            "checkpoint_00000002",
            "checkpoint_00000004",
        ]
    frame = ran.results().set_index("variant")
    assert frame.loc["full", "status"] == "finished"
    starts = {name: start_of(trial) for name, trial in trials.items() if name != "fails"}
    assert starts["adapter"]["start/launch"] + starts["adapter"]["start/models"] < 2 < starts["full"]["start/launch"]


def start_of(trial: TrialFolder) -> dict[str, float]:
    recorded = (event["values"] for event in trial.events() if event["kind"] == "metrics")
    return next(values for values in recorded if "start/launch" in values)


def test_a_killed_worker_and_a_stop_cost_no_more_than_without(tmp_path: Path) -> None:
    """Two workers: after SIGKILL of one a new group goes on from the checkpoint; a stopped trial resumes alone."""
    base = BASE.replace(steps=30, eval_every=30)
    one = campaign(tmp_path, {"full": {}, "next": {"sampler_steps": 2}}, base, workers=2)
    thread = Thread(target=one.run, kwargs={"parallel": 1})
    thread.start()
    trials = folders(one)
    wait_for(lambda: list((trials["full"].path / "train").glob("checkpoint_*")), 120, "a checkpoint")
    first = workers(trials["full"])
    assert set(first) == {"rank-0", "rank-1"}
    os.kill(first["rank-1"], signal.SIGKILL)
    wait_for(trials["full"].result, 120, "a new group finishes it")
    second = workers(trials["full"])
    assert not set(second.values()) & set(first.values())
    wait_for(lambda: list((trials["next"].path / "train").glob("checkpoint_*")), 60, "the next trial's checkpoint")
    assert workers(trials["next"]) == second
    one.records.request_stop()
    thread.join(120)
    assert not thread.is_alive()
    assert trials["next"].result() is None
    again = campaign(tmp_path, {"full": {}, "next": {"sampler_steps": 2}}, base, workers=2, resident=False)
    assert again.run(parallel=1).finished
    steps = [event["step"] for event in trials["next"].events() if event["kind"] == "metrics"]
    assert max(steps) == 30
    assert steps.count(1) == 1, "it went on from the resident group's checkpoint"


def test_a_worker_that_hangs_between_two_jobs_is_killed_and_replaced(tmp_path: Path) -> None:
    run = tiny_run(resident=True, workers=1, checkpoint_every=2)
    first, second = TrialFolder(tmp_path / "trials" / "first"), TrialFolder(tmp_path / "trials" / "second")
    ray_bridge.run_job(BASE, run, first.path)
    stopped = workers(first)["rank-0"]
    os.kill(stopped, signal.SIGSTOP)
    job = Thread(target=ray_bridge.run_job, args=(BASE, run, second.path))
    job.start()
    watch = StallWatch(lambda: ["second"], lambda _: second, timeout_s=4.0)
    wait_for(lambda: watch.look() or heartbeat.began(stopped) is None, 60, "the worker is killed")
    job.join(120)
    assert not job.is_alive()
    assert recorded(second.path) == recorded(first.path)
    assert [event for event in second.events() if event["kind"] == "tags" and heartbeat.STALLED in event["values"]]
    waits = workers(second)["rank-0"]
    assert heartbeat.began(waits) is not None
    ray_bridge.end_resident_workers()
    assert heartbeat.began(waits) is None
    assert "resident workers" not in [thread.name for thread in threading.enumerate()], "it waits in ray.get"


SCRIPT = """
import atexit, sys, threading
from pathlib import Path

waits = lambda: "resident workers" in [thread.name for thread in threading.enumerate()]
atexit.register(lambda: print("at the end", waits()))  # called after what Ray and ray_bridge register

import ray, ray_bridge
from tests.integration.test_resident import BASE
ray.init(address=sys.argv[1], log_to_driver=False)
ray_bridge.run_job(BASE, ray_bridge.tiny_run(resident=True, workers=1), Path(sys.argv[2]))
print("after a job", waits())
"""


def test_a_script_ends_its_resident_workers_before_ray_shuts_down(tmp_path: Path, connected_ray: Any) -> None:
    """Ray frees at its shutdown what a thread reads that waits for workers: now and then the process died of it."""
    environment = {**os.environ, **ENVIRONMENT, "RAY_ADDRESS": connected_ray.address}
    command = [sys.executable, "-c", SCRIPT, connected_ray.address, str(tmp_path / "trials" / "one")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["after a job True", "at the end False"]


@pytest.mark.long
def test_a_trial_that_waits_for_the_place_is_not_overtaken_by_the_workers_next_one(tmp_path: Path) -> None:
    """Two trials at once where one fits: the second waits in Ray's queue when the first one's workers are free."""
    variants: dict[str, dict[str, Any]] = {"one": {}, "two": {"sampler_steps": 2}, "three": {"sampler_steps": 3}}
    ran = campaign(tmp_path, variants, workers=2)
    assert ran.run(parallel=2).finished
    trials = folders(ran)
    ended = {name: trial.result_file.stat().st_mtime for name, trial in trials.items()}
    assert max(ended, key=lambda name: ended[name]) == "three"
