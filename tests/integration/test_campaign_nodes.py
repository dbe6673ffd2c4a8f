"""Variants share a node while it lives, the rest finishes elsewhere, and GPUs come free.

Real Ray Train jobs of two gloo workers, on three raylets with two fake GPUs each.
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
from tests.support.campaigns import (
    NAME,
    TRAINED,
    campaign,
    driver,
    end,
    events,
    free,
    journal,
    prepare,
    ray_cluster,
)
from tests.support.waiting import wait_for
from tune_spaces.campaign import Campaign
from tune_spaces.design.phases import Phase
from tune_spaces.design.variants import attribution, full
from tune_spaces.ray_tune.nodes import check_fits

ACCURACY = {"full": 0.67, "A": 0.6, "B": 0.61, "C": 0.62}
RUN = {"workers": 2, "use_gpu": True, "cpus_per_worker": 0.5}
NODE = {"num_cpus": 1, "num_gpus": 2}
FREED_WITHIN = 10.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster(NODE, NODE, NODE) as three:
        yield three


def places(storage: Path) -> dict[str, list[str]]:
    """The nodes that each variant's workers started on, in order."""
    found: dict[str, list[str]] = {}
    for row in journal(storage):
        if row["event"] == "loop":
            found.setdefault(row["variant"], []).append(row["node"])
    return found


def freed(gpus: float) -> None:
    began = time.monotonic()
    wait_for(lambda: free("GPU") == gpus, FREED_WITHIN, f"{gpus:g} GPUs free")
    assert time.monotonic() - began < FREED_WITHIN


@contextmanager
def when(moment: Callable[[], bool], act: Callable[[], None]) -> Iterator[None]:
    """Do something at a moment of the body's."""
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


@pytest.mark.slow
def test_variants_share_a_node_and_leave_its_gpus_free(tmp_path: Path, cluster: Any) -> None:
    prepare(tmp_path, ACCURACY, steps=2)
    policy = campaign(tmp_path, run=RUN).run(TRAINED)
    freed(6)
    assert policy.finished
    ran = places(tmp_path)
    assert list(ran) == ["full", "B", "C"]
    assert len({node for nodes in ran.values() for node in nodes}) == 1


@pytest.mark.slow
def test_an_error_leaves_the_gpus_free(tmp_path: Path, cluster: Any) -> None:
    prepare(tmp_path, ACCURACY, fail=["full"])
    policy = campaign(tmp_path, run={**RUN, "max_failures": 0}).run(TRAINED)
    freed(6)
    assert policy.failed_first


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before B", "in B"])
def test_when_the_node_dies_the_rest_finishes_elsewhere(tmp_path: Path, cluster: Any, moment: str) -> None:
    prepare(tmp_path, ACCURACY, steps=6, pause=0.5)
    two = Phase(name="two", goal="a node dies", first=(full(), attribution()["B"]))
    asked = Campaign(two, tiny(), tiny_run(**RUN), storage=tmp_path, name=NAME)

    def now() -> bool:
        if moment == "before B":
            return bool(list((tmp_path / NAME / "trials").glob("full-*/result.json")))
        return any(row["event"] == "step" and row["variant"] == "B" and row["step"] >= 1 for row in journal(tmp_path))

    def kill() -> None:
        node = next(n for n in cluster.list_all_nodes() if n.node_id == places(tmp_path)["full"][0])
        cluster.remove_node(node, allow_graceful=False)

    try:
        with when(now, kill):
            policy = asked.run(TRAINED)
        freed(4)
    finally:
        cluster.add_node(**NODE, object_store_memory=80 * 2**20)
    assert policy.finished
    assert not any(outcome.failed for outcome in policy.outcomes.values())
    ran = places(tmp_path)
    assert ran["B"][-1] != ran["full"][0]
    assert sorted(asked.results()["variant"]) == ["B", "full"]
    if moment == "in B":
        assert ran["B"][0] == ran["full"][0]
        resumed = [row["step"] for row in journal(tmp_path) if row["event"] == "loop" and row["variant"] == "B"]
        assert resumed[0] == 0
        assert resumed[-1] >= 1, "B goes on from its checkpoint"


@pytest.mark.slow
def test_a_stop_in_mid_training_frees_the_gpus_and_a_resume_goes_on(tmp_path: Path, cluster: Any) -> None:
    prepare(tmp_path, {**ACCURACY, "full": 0.72}, steps=8, pause=0.5)
    options = [f"--set={name}={value}" for name, value in RUN.items()]
    process = driver(tmp_path, *options, job=TRAINED, address=cluster.address)
    try:
        wait_for(lambda: len([r for r in journal(tmp_path) if r["event"] == "step"]) >= 2, 120, "full trains")
        assert free("GPU") == 4
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(60) == 1
        freed(6)
        process = driver(tmp_path, *options, job=TRAINED, address=cluster.address)
        assert process.wait(180) == 0, (tmp_path / "driver.log").read_text()
        freed(6)
    finally:
        end(process)
    started = [row["step"] for row in journal(tmp_path) if row["event"] == "loop"]
    assert started[0] == 0
    assert started[-1] >= 1
    assert events(tmp_path, "loop") == ["full"] * len(started)


@pytest.mark.slow
def test_more_gpus_than_a_node_has_are_refused_in_seconds(tmp_path: Path, cluster: Any) -> None:
    prepare(tmp_path, ACCURACY)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"4 workers need 4 GPUs on one node; the largest of 4 live nodes.* has 2"):
        campaign(tmp_path, run={**RUN, "workers": 4}).run(TRAINED)
    assert time.monotonic() - began < 5
    assert free("GPU") == 6
    process = driver(tmp_path, "--set=use_gpu=true", "--set=workers=4", job=TRAINED, address=cluster.address)
    assert process.wait(60) == 2
    assert "the largest of 4 live nodes" in (tmp_path / "driver.log").read_text()


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
