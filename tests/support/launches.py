"""Launches of a phase of the paper's size, for tests of launcher files."""

from typing import Any

from cluster.launchers.launch import Launch, plan_launch
from cluster.launchers.site import load_site
from ray_bridge import paper_run

PAPER = ("--preset", "paper")


def paper_launch(
    *arguments: str, profile: str | None = None, site: dict[str, Any] | None = None, **changes: Any
) -> Launch:
    """Return a launch of phase 1 on four GPUs a node."""
    settings: dict[str, Any] = {"phase": "phase1", "run": paper_run(), **changes}
    return plan_launch(arguments=arguments or PAPER, site=load_site(profile, site), **settings)
