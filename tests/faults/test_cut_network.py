"""The network between two hosts is cut for 30 s, or for good: every trial ends once, with an undisturbed one's numbers.

A driver on another host than the head's says that it does not reach it.
Hosts are network namespaces with a Ray node each; a trial is a real Ray Train job on two fake GPUs of one host.
"""

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bridge_common.trial_folder import TrialFolder
from tests.support.campaigns import TRAINED, driver_log, events, journal, prepare
from tests.support.campaigns import steps as done_steps
from tests.support.cheap_jobs import checksum
from tests.support.faults import RECOVERY_S, assert_as_undisturbed, driving
from tests.support.hosts import Hosts, ablating, hosts, no_hosts
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long]
STEPS = 60
OPTIONS = (
    *("--design=add-one-in", "--toggle=kl", "--set=workers=2", "--set=use_gpu=true", "--set=cpus_per_worker=0.5"),
    *("--set=progress_timeout=60", "--skip-preflight"),
)
VARIANTS = ("none", "only-kl")


@pytest.fixture
def network() -> Iterator[Hosts]:
    if reason := no_hosts():
        pytest.skip(reason)
    with hosts() as network:
        for _ in VARIANTS:
            network.add(cpus=1, gpus=2, kind="H100")
        yield network


def nodes(storage: Path) -> dict[str, str]:
    """Return the node that each variant last worked on."""
    return {row["variant"]: row["node"] for row in journal(storage) if row["event"] == "step"}


def host_of(network: Hosts, node: str) -> int:
    code = "import json, ray; ray.init(log_to_driver=False); print(json.dumps(ray.nodes()))"
    (address,) = [row["NodeManagerAddress"] for row in json.loads(network.run(0, code)) if row["NodeID"] == node]
    return next(host for host in range(1, len(VARIANTS) + 1) if network.ip(host) == address)


@pytest.fixture
def patient_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    """Yield a head and a host with a node, which the head counts as lost only after minutes."""
    if reason := no_hosts():
        pytest.skip(reason)
    monkeypatch.setenv("RAY_health_check_failure_threshold", "1000")
    with hosts() as network:
        network.add(cpus=2)
        yield network


@pytest.mark.parametrize("seconds", [30, None], ids=["30 s", "for good"])
def test_a_cut_network_loses_and_doubles_no_trial(
    seconds: int | None, storage: Path, network: Hosts, record_property: Any
) -> None:
    prepare(storage, dict.fromkeys(VARIANTS, 0.6), steps=STEPS, pause=0.5)
    with ablating(storage, network, *OPTIONS, job=TRAINED) as process:
        wait_for(lambda: len(set(nodes(storage).values())) == 2, 240, "both hosts work")
        lost = host_of(network, nodes(storage)["only-kl"])
        network.cut(lost)
        cut = time.time()
        if seconds is not None:
            time.sleep(seconds)
            network.mend(lost)
        assert process.wait(400) == 0, driver_log(storage)
    steps = [row["time"] for row in journal(storage) if row["event"] == "step" and row["variant"] == "only-kl"]
    record_property(RECOVERY_S, max(later - earlier for earlier, later in pairwise(steps) if later > cut))
    assert sorted(events(storage, "end")) == sorted(VARIANTS), "each ended once"
    for path in (storage / "ablate-tiny" / "trials").iterdir():
        trial = TrialFolder(path)
        assert (trial.result() or {})["metrics"]["checksum"] == checksum(STEPS)
        starts = [
            row["step"] for row in journal(storage) if row["event"] == "loop" and path.name.startswith(row["variant"])
        ]
        assert len(starts) <= 2
        assert all(step > 0 for step in starts[1:]), "it went on from its checkpoint"


def test_a_head_that_cannot_be_reached_is_said_and_the_campaign_goes_on(storage: Path, patient_network: Hosts) -> None:
    head = f"Ray's head at {patient_network.address}"
    prepare(storage, {"full": 0.72}, steps=STEPS, pause=0.5)
    with driving(
        storage, address=patient_network.address, on=lambda command: patient_network.command(1, command)
    ) as process:
        wait_for(lambda: len(done_steps(storage, "full")) >= 2, 240, "it works")
        patient_network.cut(0)
        said = f"{head} does not answer: check that its process gcs_server runs on {patient_network.ip(0)} "
        wait_for(lambda: said in driver_log(storage), 30, "a line says so")
        done = len(done_steps(storage, "full"))
        wait_for(lambda: len(done_steps(storage, "full")) > done, 30, "the running job goes on meanwhile")
        patient_network.mend(0)
        wait_for(lambda: f"{head} answers again" in driver_log(storage), 60, "a line says so")
        assert process.wait(240) == 0, driver_log(storage)
    assert driver_log(storage).count(head) == 2
    assert_as_undisturbed(storage, STEPS)
