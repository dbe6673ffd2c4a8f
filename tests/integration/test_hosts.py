"""A sweep over several hosts: all of them work, none that is lost takes a trial with it, and nothing runs twice.

Hosts are network namespaces with a Ray node each; a job is a task that holds two fake GPUs, as a Ray Train job would.
"""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from bridge_common import files
from tests.support.campaigns import PLACED, driver_log, journal, prepare
from tests.support.cheap_jobs import checksum
from tests.support.faults import assert_recorded_once
from tests.support.hosts import Hosts, ablating, hosts, no_hosts
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow
NODE = {"cpus": 1, "gpus": 2}
SWEEP = (
    *("--design=factorial", "--toggle=kl", "--toggle=prompt", "--seeds=0,1,2"),
    *("--set=workers=2", "--set=use_gpu=true", "--set=cpus_per_worker=0.5", "--skip-preflight"),
)
VARIANTS = ("kl+prompt", "kl", "prompt", "none")
FREE = """
import time, ray
ray.init(log_to_driver=False)
while ray.available_resources().get("GPU") != 6:
    time.sleep(0.2)
print(time.time())
"""
STEPS = 8


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    if reason := no_hosts():
        pytest.skip(reason)
    with hosts() as network:
        for kind in ("H100", "H100", "A100"):
            network.add(**NODE, kind=kind)
        yield network


def sweeping(storage: Path, network: Hosts, *arguments: str) -> "AbstractContextManager[Popen[str]]":
    return ablating(storage, network, *SWEEP, *arguments, job=PLACED)


def rows(storage: Path, event: str) -> list[dict[str, Any]]:
    return [row for row in journal(storage) if row["event"] == event]


def working(storage: Path) -> set[tuple[str, int]]:
    """Return the trials that have begun and not ended."""
    began, ended = (
        {(row["variant"], row["seed"]) for row in rows(storage, event) if event == "end" or row["step"] >= 1}
        for event in ("step", "end")
    )
    return began - ended


def assert_all_ran_once(storage: Path, repeated: int) -> None:
    """Check that each trial ended once with every step, and that at most so many steps were done again."""
    ended = Counter((row["variant"], row["seed"]) for row in rows(storage, "end"))
    assert ended == Counter({(variant, seed): 1 for variant in VARIANTS for seed in (0, 1, 2)})
    steps = Counter((row["variant"], row["seed"], row["step"]) for row in rows(storage, "step"))
    assert len(steps) == 12 * STEPS
    assert steps.total() <= 12 * STEPS + repeated
    results = [files.read_json(path) for path in (storage / "ablate-tiny" / "trials").glob("*/result.json")]
    assert [result["metrics"]["checksum"] for result in results] == [checksum(STEPS)] * 12, "as if undisturbed"


def test_a_lost_host_loses_nothing_and_a_new_one_is_used(storage: Path, network: Hosts) -> None:
    # Trials wait after their first step, so that some are left for the new host however fast they are.
    prepare(storage, dict.fromkeys(VARIANTS, 0.6), steps=STEPS, pause=0.1, hold=True, samples=True, n=60)
    with sweeping(storage, network, "--set=test_examples=60") as process:
        wait_for(lambda: len({row["node"] for row in rows(storage, "step")}) == 3, 120, "three hosts work")
        schedule = files.read_json(storage / "ablate-tiny" / "schedule.json")
        assert schedule["slots"] == 3
        lost = rows(storage, "step")[-1]["node"]
        ids = node_ids(network)
        network.kill(next(host for host, node in ids.items() if node == lost))
        new = network.add(**NODE, kind="H100")
        joined = node_ids(network)[new]
        wait_for(lambda: joined in {row["node"] for row in rows(storage, "step")}, 120, "the new host works")
        (storage / "go").touch()
        assert process.wait(240) == 0, driver_log(storage)
        ended = time.time()
    assert float(network.run(0, FREE)) - ended < 10, "all GPUs are free"
    assert_all_ran_once(storage, repeated=1)
    assert_recorded_once(f"sqlite:///{storage / 'mlflow.db'}", "ablate-tiny", 12)
    kinds = Counter(files.read_json(path)["gpu"] for path in (storage / "ablate-tiny" / "trials").glob("*/result.json"))
    # A host's first trial ends where it began: with the only A100 lost, all ended on others.
    assert kinds.keys() == ({"H100"} if lost == ids[3] else {"H100", "A100"})


def node_ids(network: Hosts) -> dict[int, str]:
    """Return Ray's id of each host's node."""
    code = "import json, ray; ray.init(log_to_driver=False); print(json.dumps(ray.nodes()))"
    ids = {node["NodeManagerAddress"]: str(node["NodeID"]) for node in json.loads(network.run(0, code))}
    return {host: ids[ip] for host in range(len(ids)) if (ip := network.ip(host)) in ids}


def test_a_driver_killed_with_three_trials_in_flight_repeats_none(storage: Path, network: Hosts) -> None:
    prepare(storage, dict.fromkeys(VARIANTS, 0.6), steps=STEPS, pause=0.6)
    with sweeping(storage, network) as process:
        wait_for(lambda: len(rows(storage, "end")) >= 3 and len(working(storage)) == 3, 120, "three run, three ended")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
    with sweeping(storage, network) as process:
        assert process.wait(240) == 0, driver_log(storage)
    assert_all_ran_once(storage, repeated=3)


def test_the_embedded_pair_runs_on_two_hosts_at_once(storage: Path, network: Hosts) -> None:
    small = {"steps": 2, "warmup_steps": 1, "eval_every": 2, "validation_examples": 4, "test_examples": 8}
    options = {**small, "train_examples": 64, "workers": 1, "cpus_per_worker": 1}
    settings = [f"--set={name}={value}" for name, value in options.items()]
    design = ("--design=add-one-in", "--toggle=kl", "--skip-preflight")
    with ablating(storage, network, *design, *settings, job="ray_bridge:run_job") as process:
        assert process.wait(240) == 0, driver_log(storage)
    results = [files.read_json(path) for path in (storage / "ablate-tiny" / "trials").glob("*/result.json")]
    assert len(results) == 2
    assert len({result["node_id"] for result in results}) == 2
