"""Whether a live node can hold the run, judged from a table of nodes, without Ray."""

from typing import Any

import pytest

from cluster.preflight.check import Check
from cluster.preflight.gpus import Node, candidates, judge_size
from cluster.preflight.settings import PreflightSettings


def node(name: str, gpus: float, cpus: float, kind: str | None = None) -> Node:
    return Node(id=name, address=name, gpus=gpus, cpus=cpus, kind=kind)


NODES = [node("h", 4, 32, "H100"), node("a", 2, 64, "A100"), node("c", 0, 96)]


def judged(nodes: list[Node] = NODES, **changes: Any) -> Check | None:
    return judge_size(nodes, PreflightSettings(**changes))


@pytest.mark.parametrize(
    ("changes", "fitting"),
    [
        ({"gpus": 4, "cpus": 32, "gpu_kind": "H100"}, ["h"]),
        ({"gpus": 4, "cpus": 32, "gpu_kind": "h100"}, ["h"]),
        ({"gpus": 2, "cpus": 32}, ["h", "a"]),
        ({"gpus": 2, "cpus": 33}, ["a"]),
        ({"gpus": 0, "cpus": 96}, ["c"]),
        ({"gpus": 0, "cpus": 1, "gpu_kind": "H100"}, ["h", "a", "c"]),
    ],
)
def test_nodes_that_can_hold_the_run(changes: dict[str, Any], fitting: list[str]) -> None:
    assert [n.id for n in candidates(NODES, PreflightSettings(**changes))] == fitting
    assert judged(**changes) is None


@pytest.mark.parametrize(
    ("changes", "name", "detail"),
    [
        ({"gpus": 8, "cpus": 1}, "GPUs", "needs one node with 8 GPUs and 1 CPUs; the largest live node has 4 GPUs"),
        (
            {"gpus": 4, "cpus": 1, "gpu_kind": "A100"},
            "GPUs",
            "4 GPUs of kind A100 and 1 CPUs; the largest live node has 2",
        ),
        ({"gpus": 1, "cpus": 1, "gpu_kind": "B200"}, "GPUs", "no node has that kind"),
        ({"gpus": 4, "cpus": 33}, "GPUs", "the largest live node has 4 GPUs and 32 CPUs"),
        ({"gpus": 0, "cpus": 97}, "CPUs", "needs one node with 97 CPUs"),
    ],
)
def test_what_no_node_can_hold_fails_with_what_there_is(changes: dict[str, Any], name: str, detail: str) -> None:
    check = judged(**changes)
    assert check is not None
    assert (check.name, check.status) == (name, "fail")
    assert detail in check.detail
    assert "(h: 4 GPU H100, 32 CPU; a: 2 GPU A100, 64 CPU; c: 0 GPU, 96 CPU)" in check.detail
    assert check.remedy


def test_a_cluster_without_nodes_says_so() -> None:
    check = judged([], gpus=1, cpus=1)
    assert check is not None
    assert "no live node" in check.detail
