"""Files that start the same run under Slurm, KubeRay or `ray up`, all rendered from one set of settings."""

from collections.abc import Callable
from typing import Any

from bridge_common.errors import UserError

KINDS = ("slurm", "kuberay", "ray-up")


def render(kind: str, **settings: Any) -> str:
    """The launcher file of a kind, as `submit PHASE --print KIND` shows it.

    Args:
        kind: one of `KINDS`.
        settings: fields of `LaunchSettings`; strings are read as the field's type.

    Raises:
        UserError: an unknown kind or field, or an impossible value.
    """
    from cluster.launchers import kuberay, ray_up, slurm
    from cluster.launchers.settings import LaunchSettings
    from ray_bridge.config.validation import build

    renderers: dict[str, Callable[[LaunchSettings], str]] = dict(
        zip(KINDS, (slurm.render, kuberay.render, ray_up.render), strict=True)
    )
    if kind not in renderers:
        raise UserError(f"unknown launcher {kind!r}: use {', '.join(KINDS)}")
    return renderers[kind](build(LaunchSettings, settings))
