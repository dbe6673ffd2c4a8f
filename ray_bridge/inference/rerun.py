"""Write the command that trains a recorded trial again."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.config.run_spec import RunSpec
from ray_bridge.config.spec import JobSpec

_TOGGLES = ("kl_alignment", "prompt_alignment", "decode_aware", "geometry_projection")
"""Named always: a sweep switches on those that are not set."""
_POINT = "steps"
"""The field that the sweep of one point varies."""
_OPTIONS = frozenset({"seed", "plugins", _POINT})
"""Fields with options of their own."""


def rerun_command(spec: JobSpec, run: Mapping[str, Any]) -> str | None:
    """Return a command that trains this one trial, by a sweep of one point; None if no command can say its spec.

    Args:
        spec: the trial's job.
        run: its RunSpec's fields, as `spec.json` has them; empty for the preset's.
    """
    settings = _changes(spec, tiny(), always=_TOGGLES)
    settings |= _changes(RunSpec(**run), tiny_run()) if run else {}
    if any(isinstance(value, Mapping) for value in settings.values()):  # a mapping that was read from a file
        return None
    pairs = [part for name, value in settings.items() for part in ("--set", f"{name}={_text(value)}")]
    plugins = [part for module in spec.plugins for part in ("--plugin", module)]
    point = ["--over", f"{_POINT}={getattr(spec, _POINT)}", "--seeds", str(spec.seed)]
    return shlex.join(["python", "-m", "cluster", "sweep", *point, *plugins, *pairs])


def _changes(spec: JobSpec | RunSpec, preset: JobSpec | RunSpec, always: tuple[str, ...] = ()) -> dict[str, Any]:
    own, usual = spec.model_dump(mode="json"), preset.model_dump(mode="json")
    return {
        name: value
        for name, value in own.items()
        if name not in _OPTIONS and (name in always or value != usual.get(name))
    }


def _text(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
