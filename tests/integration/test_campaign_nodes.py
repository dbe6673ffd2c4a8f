"""Variants share a node while it is alive, the rest finishes elsewhere, and GPUs are free after every kind of end.

Real Ray Train jobs of two workers, on three nodes with two fake GPUs each.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from ray_bridge.config.presets import paper_run, tiny, tiny_run
from tests.support.campaigns import NAME, TRAINED, campaign, driver, driver_log, end, events, journal, prepare
from tests.support.cheap_jobs import finish
from tests.support.ray_clusters import SMALL_STORE, free
from tests.support.waiting import wait_for
from tune_spaces.campaign import Campaign
from tune_spaces.design.phases import Phase
from tune_spaces.design.variants import attribution, full
from tune_spaces.ray_tune.nodes import check_fits, live_nodes

ACCURACY = {"full": 0.67, "A": 0.6, "B": 0.61, "C": 0.62}
RUN = {"workers": 2, "use_gpu": True, "cpus_per_worker": 0.5}
NODE = {"num_cpus": 1, "num_gpus": 2}
FREED_WITHIN = 10.0


@pytest.fixture(scope="module")
def cluster(connected_ray: Any) -> Iterator[Any]:
    """Yield the connected cluster with three more nodes."""
    for _ in range(3):
        connected_ray.add_node(**NODE, **SMALL_STORE)
    yield connected_ray
    for node in list(connected_ray.worker_nodes):
        connected_ray.remove_node(node, allow_graceful=False)
    wait_for(lambda: len(live_nodes()) == 1, 60, "the other tests find the head alone")


def places(storage: Path) -> dict[str, list[str]]:
    """Return the nodes that each variant's workers started on, in order."""
    found: dict[str, list[str]] = {}
    for row in journal(storage):
        if row["event"] == "loop":
            found.setdefault(row["variant"], []).append(row["node"])
    return found


def assert_freed(gpus: float) -> None:
    """Check that so many GPUs are free within seconds."""
    began = time.monotonic()
    wait_for(lambda: free("GPU") == gpus, FREED_WITHIN, f"{gpus:g} GPUs free")
    assert time.monotonic() - began < FREED_WITHIN


@contextmanager
def once(moment: Callable[[], bool], act: Callable[[], None]) -> Iterator[None]:
    """Call `act` once the moment has come, while the body runs."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            if moment():
                act()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def full_and_b(storage: Path, **run: Any) -> Campaign:
    phase = Phase(name="two", goal="full and B", first=(full(), attribution()["B"]))
    return Campaign(phase, tiny(), tiny_run(**RUN, **run), storage=storage, name=NAME)


@pytest.mark.slow
def test_variants_share_a_node_and_leave_its_gpus_free_also_after_an_error(tmp_path: Path, cluster: Any) -> None:
    prepare(tmp_path, ACCURACY, steps=2, fail=["B"])
    policy = full_and_b(tmp_path, max_failures=0).run(TRAINED, parallel=1)
    assert_freed(6)
    assert policy.finished
    assert [outcome.failed for outcome in policy.outcomes.values()] == [False, True]
    ran = places(tmp_path)
    assert list(ran) == ["full", "B"]
    assert len({node for nodes in ran.values() for node in nodes}) == 1


def run_while_a_node_dies(asked: Campaign, cluster: Any, moment: Callable[[], bool], node: Callable[[], str]) -> None:
    """Run a campaign to its end, and kill a node at a moment; afterwards the cluster has three nodes again."""

    def kill() -> None:
        dying = next(each for each in cluster.list_all_nodes() if each.node_id == node())
        cluster.remove_node(dying, allow_graceful=False)

    try:
        with once(moment, kill):
            policy = asked.run(TRAINED, parallel=1)
        assert_freed(4)
    finally:
        cluster.add_node(**NODE, **SMALL_STORE)
    assert policy.finished
    assert not any(outcome.failed for outcome in policy.outcomes.values())
    assert sorted(asked.results()["variant"]) == ["B", "full"]


@pytest.mark.slow
def test_when_the_node_dies_before_b_it_runs_elsewhere(tmp_path: Path, cluster: Any) -> None:
    prepare(tmp_path, ACCURACY, steps=2)
    asked = full_and_b(tmp_path)

    def full_has_ended() -> bool:
        return bool(list(asked.folder.glob("trials/full-*/result.json")))

    run_while_a_node_dies(asked, cluster, full_has_ended, lambda: places(tmp_path)["full"][0])
    assert places(tmp_path)["B"][-1] != places(tmp_path)["full"][0]


@pytest.mark.slow
def test_when_the_node_dies_in_b_it_resumes_elsewhere_from_its_checkpoint(tmp_path: Path, cluster: Any) -> None:
    """An earlier start has finished `full`, so B asks for the node of `full`."""
    prepare(tmp_path, ACCURACY, steps=6, pause=0.5)
    asked = full_and_b(tmp_path)
    first = next(node["NodeID"] for node in live_nodes() if node["Resources"].get("GPU"))
    trial = asked.records.begin(asked.plan.trials[asked.plan.first[0]], asked.run_spec)
    finish(trial.path, first, time.time())

    def b_has_worked() -> bool:
        return any(row["event"] == "step" and row["step"] >= 1 for row in journal(tmp_path))

    run_while_a_node_dies(asked, cluster, b_has_worked, lambda: first)
    ran = places(tmp_path)
    assert list(ran) == ["B"]
    assert ran["B"][0] == first
    assert ran["B"][-1] != first
    resumed = [row["step"] for row in journal(tmp_path) if row["event"] == "loop"]
    assert resumed[0] == 0
    assert resumed[-1] >= 1, "B goes on from its checkpoint"


@pytest.mark.slow
def test_a_stop_in_mid_training_frees_the_gpus_and_a_resume_goes_on(storage: Path, cluster: Any) -> None:
    prepare(storage, {**ACCURACY, "full": 0.72}, steps=24, pause=0.5)  # longer than a deaf job may go on
    options = [f"--set={name}={value}" for name, value in RUN.items()]
    process = driver(storage, *options, job=TRAINED, address=cluster.address)
    try:
        wait_for(lambda: len([r for r in journal(storage) if r["event"] == "step"]) >= 2, 120, "full trains")
        assert free("GPU") == 4
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(60) == 1
        assert_freed(6)
        prepare(storage, {**ACCURACY, "full": 0.72}, steps=24)
        process = driver(storage, *options, job=TRAINED, address=cluster.address)
        assert process.wait(180) == 0, driver_log(storage)
        assert_freed(6)
    finally:
        end(process)
    started = [row["step"] for row in journal(storage) if row["event"] == "loop"]
    assert started[0] == 0
    assert started[-1] >= 1
    assert events(storage, "loop") == ["full"] * len(started)


@pytest.mark.slow
def test_more_gpus_than_a_node_has_are_refused_in_seconds(tmp_path: Path, cluster: Any) -> None:
    prepare(tmp_path, ACCURACY)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"4 workers need 4 GPUs on one node; the largest of 4 live nodes.* has 2"):
        campaign(tmp_path, run={**RUN, "workers": 4}).run(TRAINED)
    assert time.monotonic() - began < 15
    assert free("GPU") == 6
    process = driver(tmp_path, "--set=use_gpu=true", "--set=workers=4", job=TRAINED, address=cluster.address)
    assert process.wait(60) == 2
    assert "the largest of 4 live nodes" in driver_log(tmp_path)


def test_the_check_names_what_is_missing() -> None:
    def node(**resources: float) -> dict[str, Any]:
        return {"Alive": True, "NodeManagerAddress": "10.0.0.1", "NodeID": "n", "Resources": resources}

    check_fits(paper_run(), [node(GPU=8, CPU=64)])
    for nodes, line in (
        ([], "no node is alive"),
        ([node(CPU=64)], r"4 GPUs on one node; the largest of 1 live nodes, 10.0.0.1, has 0"),
        ([node(GPU=2, CPU=64)] * 3, "has 2"),
        ([node(GPU=8, CPU=4)], "16 CPUs on one node"),
        ([node(GPU=8, CPU=4), node(CPU=64)], "no live node has both"),
    ):
        with pytest.raises(UserError, match=line):
            check_fits(paper_run(), nodes)
