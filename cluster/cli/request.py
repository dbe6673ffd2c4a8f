"""From what a command line asks to a campaign, with everything that can be wrong found before Ray starts."""

import importlib
import inspect
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from cluster.cli.options import Ask, parse_seeds, parse_settings
from mlflow_utils.tracking_uri import default_tracking_uri
from ray_bridge.config.presets import preset, split_settings
from ray_bridge.config.spec import JobSpec, check_run
from ray_bridge.tasks.datasets import check_folder
from tune_spaces.campaign import Campaign
from tune_spaces.design.phases import PHASES, Phase, ablate
from tune_spaces.design.toggles import all_toggles
from tune_spaces.gate.decision import GateSettings, Mode


def make_campaign(phase: str, ask: Ask) -> Campaign:
    """The campaign that was asked for.

    Raises:
        UserError: for whatever in it cannot be.
    """
    if phase not in PHASES:
        raise UserError(f"unknown phase {phase!r}: there are {', '.join(PHASES)}")
    settings = parse_settings(ask.settings)
    job, run = split_settings(settings)
    job |= _shortcuts(ask)
    base, run_spec = preset(ask.preset, job, run)
    check_folder(base.task_data)
    check_run(base, run_spec)
    toggles = {toggle.field for toggle in all_toggles()}
    return Campaign(
        _phase(phase, base, ask),
        base,
        run_spec,
        storage=ask.storage,
        name=ask.name or f"{phase}-{ask.preset}",
        seeds=parse_seeds(ask.seeds),
        gate=GateSettings(
            passes=ask.gate_passes, attribute=ask.gate_attribute, mode=_mode(ask.gate), budget=ask.gate_budget
        ),
        held={name: getattr(base, name) for name in job if name in toggles},
        request={
            "preset": ask.preset,
            "settings": {**settings, **_shortcuts(ask)},
            "tracking_uri": ask.tracking_uri or default_tracking_uri(ask.storage),
        },
    )


def _mode(text: str) -> Mode:
    if text not in list(Mode):
        raise UserError(f"--gate {text}: use {' or '.join(Mode)}")
    return Mode(text)


def _shortcuts(ask: Ask) -> dict[str, Any]:
    given: dict[str, Any] = {"source": ask.source, "target": ask.target, "task": ask.task}
    found = {name: _absolute(value) for name, value in given.items() if value is not None}
    if ask.data is not None:
        found["task_data"] = str(ask.data.expanduser().resolve())
    return found


def _absolute(value: str) -> str:
    """Workers run in folders of their own, so a path has to be whole."""
    place = Path(value).expanduser()
    return str(place.resolve()) if place.is_dir() else value


def _phase(name: str, base: JobSpec, ask: Ask) -> Phase:
    if ask.campaign is not None:
        return _own_phase(ask.campaign, base)
    if name == "ablate":
        return ablate(base, ask.design or ("leave-one-out",), ask.toggle or None)
    return PHASES[name](base)


def _own_phase(reference: str, base: JobSpec) -> Phase:
    module, _, function = reference.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"--campaign {reference}: {error}; give MODULE:FUNCTION") from error
    phase = make(base) if inspect.signature(make).parameters else make()
    if not isinstance(phase, Phase):
        raise UserError(f"--campaign {reference}: it returned a {type(phase).__name__}, not a Phase")
    return phase
