"""Environment modules: a job on another compiler, CUDA or cuDNN than planned is another experiment."""

from collections.abc import Sequence
from typing import Any

from cluster.preflight.check import Check


def judge_modules(wanted: Sequence[str], facts: dict[str, Any], node: str) -> Check:
    """Compare the modules that a node's processes run under with the list that was asked for.

    Args:
        wanted: `name/version`; a name alone takes any version.
        facts: `system`, whether the node has a module system; `loaded`, what is loaded in Ray's processes.
        node: the node's address.
    """
    if not wanted:
        return Check(name="modules", status="skip", detail="none asked for", node=node)
    if not facts["system"]:
        return Check(name="modules", status="skip", detail="no module system on this node", node=node)
    loaded = facts["loaded"]
    missing = [module for module in wanted if not _is_loaded(module, loaded)]
    if not missing:
        return Check(name="modules", status="pass", detail=", ".join(wanted), node=node)
    return Check(
        name="modules",
        status="fail",
        detail="; ".join(_describe(module, loaded) for module in missing),
        remedy=f"module load {' '.join(wanted)}, before `ray start` on this node",
        node=node,
    )


def _is_loaded(module: str, loaded: Sequence[str]) -> bool:
    return module in loaded or ("/" not in module and any(name.partition("/")[0] == module for name in loaded))


def _describe(module: str, loaded: Sequence[str]) -> str:
    family = module.partition("/")[0]
    other = [name for name in loaded if name.partition("/")[0] == family]
    return f"{module} is not loaded" + (f" ({', '.join(other)} is)" if other else "")
