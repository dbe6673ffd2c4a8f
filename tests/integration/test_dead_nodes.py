"""A node that has died is no node: neither preflight nor the searcher counts on it."""

from pathlib import Path
from typing import Any

import pytest

from cluster.preflight import gpus
from ray_bridge import tiny, tiny_run
from tests.support.ray_clusters import SMALL_STORE
from tests.support.waiting import wait_for
from tune_spaces.design import phases
from tune_spaces.design.plan import make_plan
from tune_spaces.gate.outcome import Outcome
from tune_spaces.gate.policy import Policy
from tune_spaces.ray_tune.nodes import is_alive, live_nodes
from tune_spaces.ray_tune.searcher import VariantSearcher
from tune_spaces.records.campaign_folder import CampaignFolder

pytestmark = pytest.mark.slow


def preferred(folder: Path, node: str) -> Any:
    """Return the node that the searcher prefers for B after `full` ran on a node."""
    planned = make_plan(phases.phase1(tiny()), tiny())
    tree = Policy(first=planned.first, branches=planned.branches)
    searcher = VariantSearcher(tree, planned.trials, CampaignFolder(folder / "c"), tiny_run())
    tree.observe(planned.first[0], Outcome(accuracy=0.67, correct=670, n=1000, node_id=node))
    suggested = searcher.suggest("t")
    assert isinstance(suggested, dict)
    assert suggested["variant"] == "B"
    return suggested["prefer_node"]


@pytest.mark.timeout(120)
def test_a_dead_node_is_neither_counted_nor_preferred(connected_ray: Any, tmp_path: Path) -> None:
    import ray

    node = connected_ray.add_node(num_cpus=1, num_gpus=8, **SMALL_STORE)
    wait_for(lambda: is_alive(node.node_id), 30)
    assert preferred(tmp_path / "before", node.node_id) == node.node_id
    assert max(found.gpus for found in gpus.live_nodes()) == 8
    connected_ray.remove_node(node)
    wait_for(lambda: not is_alive(node.node_id), 30)
    assert node.node_id in {row["NodeID"] for row in ray.nodes()}, "Ray still lists it"
    assert node.node_id not in {row["NodeID"] for row in live_nodes()}
    assert node.node_id not in {found.id for found in gpus.live_nodes()}
    assert max(found.gpus for found in gpus.live_nodes()) == 0
    assert preferred(tmp_path / "after", node.node_id) is None
