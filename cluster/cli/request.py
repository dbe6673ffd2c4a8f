"""Make a campaign from the options of a phase, and refuse before Ray starts what cannot be run."""

import inspect
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from bridge_common.errors import UserError
from cluster.cli.checks import Elsewhere, require_function
from cluster.cli.data import pin_campaign_data
from cluster.cli.options import BOTH, OPTIONS, PhaseRequest, parse_controls, parse_seeds, parse_settings
from cluster.monitoring.notify import check_url
from ray_bridge.config.presets import preset, split_settings
from ray_bridge.config.run_spec import RunSpec, check_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.config.task_mapping import MAPPED, read_mapping
from ray_bridge.config.task_needs import NEEDS
from ray_bridge.footprint.model_shape import check_layers
from ray_bridge.footprint.shards import check_target_shards
from ray_bridge.tasks.registry import TASKS
from tune_spaces.analysis.contexts import CONTEXTS, READS_PROMPT
from tune_spaces.campaign import Campaign
from tune_spaces.design.parallel import parse_parallel
from tune_spaces.design.phases import PHASES, Phase, ablate
from tune_spaces.design.search import parse_axis
from tune_spaces.design.sweep import SWEEP, end_variants, sweep
from tune_spaces.design.toggles import all_toggles, applicable, find
from tune_spaces.design.variants import Variant
from tune_spaces.gate.decision import GateSettings, Mode
from tune_spaces.ray_tune.early_stopping import check_stop_early
from tune_spaces.records.campaign_name import check_name
from tune_spaces.records.limits import Limits, parse_until

_CHECKED = ("batch_size", "target_shards", "target", "source", "source_revision", "source_layer", "adapter_layers")
"""Fields that `_check_trials` reads."""


def parse_phase(phase: str, arguments: Sequence[str]) -> PhaseRequest:
    """Parse the options of a phase that will run elsewhere, and refuse what no machine could run.

    Paths are not checked: they are those of the other machine.

    Raises:
        UserError: for an unknown phase, an unknown field or an impossible value.
        click.UsageError: for an unknown option.
    """
    _check_phase(phase)
    command = click.command(phase)(OPTIONS[phase](lambda request: request))
    with command.make_context(phase, list(arguments), obj=Elsewhere()) as context:
        request = PhaseRequest(**context.params)
    base, run = make_specs(request)
    parse_seeds(request.seeds)
    if request.name is not None:
        check_name(request.storage, request.name)
    _check_own_campaign(request)
    gate = _gate_settings(request)
    if request.campaign is None:  # a function of one's own may need modules of the other machine
        make_trial_specs(phase, request)
        _require_gate(make_phase(phase, base, request), gate)
    check_start(request, run)
    return request


def check_start(request: PhaseRequest, run: RunSpec) -> None:
    """Refuse impossible options of a start: trials at once, limits, the URL of notices, the scheduler of a sweep.

    Raises:
        UserError: for the first that is impossible.
    """
    parse_parallel(request.parallel)
    until = None if request.until is None else parse_until(request.until)
    Limits(gpu_hours=request.max_gpu_hours, until=until).check(run)
    if request.notify is not None:
        check_url(request.notify)
    check_stop_early(request.stop_early, run)


def make_specs(request: PhaseRequest) -> tuple[JobSpec, RunSpec]:
    """Return the specs of job and run: those of the preset, changed by --set and the options that stand for fields.

    Raises:
        UserError: for an unknown field or an impossible value.
    """
    job, run = split_settings(parse_settings(request.settings))
    if request.resident and str(run.get("resident", True)).lower() != "true":
        raise UserError(f"--resident and --set resident={run['resident']}: leave one of them out")
    run |= {"resident": True} if request.resident else {}
    base, run_spec = preset(request.preset, job | _shortcuts(request), run)
    check_run(base, run_spec)
    return base, run_spec


def make_campaign(phase: str, request: PhaseRequest) -> Campaign:
    """Return the campaign that a command line asks for.

    Raises:
        UserError: if it cannot be run as asked.
    """
    _check_phase(phase)
    base, run_spec = make_specs(request)
    check_stop_early(request.stop_early, run_spec)
    TASKS.load(base.task).from_spec(base)  # refuses data that the task cannot read
    planned = keep_needs(make_phase(phase, base, request), base, _settings(request))
    gate = _gate_settings(request)
    _require_gate(planned, gate)
    base, planned = pin_campaign_data(base, planned)
    for toggle in all_toggles():
        if toggle.field in base.unused:
            print(
                f"note: {toggle.field}, which {toggle.key} switches, changes nothing with {base.unused[toggle.field]}"
            )
        if toggle not in applicable(base.task, base.bridge):
            print(
                f"note: task {base.task} and bridge {base.bridge} have no {toggle.field}, which {toggle.key} switches"
            )
    campaign = Campaign(
        planned,
        base,
        run_spec,
        storage=request.storage,
        name=f"{phase}-{request.preset}" if request.name is None else request.name,
        seeds=parse_seeds(request.seeds),
        gate=gate,
        held=_held(base, request),
        request={
            "preset": request.preset,
            "settings": _settings(request),
            **({} if request.stop_early is None else {"stop_early": request.stop_early}),
            **({} if request.tracking_uri is None else {"tracking_uri": request.tracking_uri}),
        },
    )
    _check_trials(campaign)
    return campaign


def _check_trials(campaign: Campaign) -> None:
    """Refuse trials whose batch or target does not divide or whose models lack a layer, and a sweep over nothing."""
    specs = list(campaign.specs().values())
    if campaign.phase.name == SWEEP:
        for name in set.intersection(*(set(spec.unused) for spec in specs)):
            if len({getattr(spec, name) for spec in specs}) > 1:
                raise UserError(f"{name} changes nothing with {specs[0].unused[name]}: do not vary it")
    different = {tuple(getattr(spec, name) for name in _CHECKED): spec for spec in specs}
    for spec in different.values():
        check_run(spec, campaign.run_spec)
        check_target_shards(spec)
        check_layers(spec)


def keep_needs(phase: Phase, base: JobSpec, settings: Container[str]) -> Phase:
    """Return a phase whose variants keep what was asked for when they change the task, instead of the task's needs.

    Args:
        phase: the phase.
        base: the spec that its variants change.
        settings: the fields that were set on the command line.
    """
    asked = {name: getattr(base, name) for name in NEEDS if name in settings}

    def kept(variant: Variant) -> Variant:
        return replace(variant, changes={**asked, **variant.changes}) if "task" in variant.changes else variant

    return phase.each(kept)


def make_trial_specs(phase: str, request: PhaseRequest) -> dict[str, dict[str, Any]]:
    """Return the flat specs of a phase's variants under their first seed, by the variants' names.

    Raises:
        UserError: for an unknown phase, an unknown field or an impossible value.
    """
    _check_phase(phase)
    base, _ = make_specs(request)
    seeds, held = parse_seeds(request.seeds), _held(base, request)
    planned = keep_needs(make_phase(phase, base, request), base, _settings(request))
    variants = [*planned.variants(), *end_variants(planned)]
    return {variant.name: variant.spec(base, variant.seeds(seeds)[0], held).flat() for variant in variants}


def _settings(request: PhaseRequest) -> dict[str, Any]:
    return {**parse_settings(request.settings), **_shortcuts(request)}


def _held(base: JobSpec, request: PhaseRequest) -> dict[str, Any]:
    """Return the toggles that the request sets, which no variant changes."""
    settings, toggles = _settings(request), {toggle.field for toggle in all_toggles()}
    return {name: value for name, value in base.flat().items() if name in settings and name in toggles}


def _check_phase(phase: str) -> None:
    if phase not in OPTIONS:
        raise UserError(f"unknown phase {phase!r}: there are {', '.join(OPTIONS)}")


def _gate_settings(request: PhaseRequest) -> GateSettings:
    if request.gate not in list(Mode):
        raise UserError(f"--gate {request.gate}: use {' or '.join(Mode)}")
    if request.gate_budget is not None and request.gate == Mode.PLAIN:
        raise UserError("--gate-budget goes with --gate confident: the plain gate adds no runs")
    return GateSettings(
        passes=request.gate_passes,
        attribute=request.gate_attribute,
        mode=Mode(request.gate),
        budget=GateSettings.budget if request.gate_budget is None else request.gate_budget,
    )


def _require_gate(planned: Phase, gate: GateSettings) -> None:
    """Refuse settings of a gate, other than the usual ones, for a phase that has none."""
    options = {"mode": "--gate", "passes": "--gate-passes", "attribute": "--gate-attribute", "budget": "--gate-budget"}
    given = [option for field, option in options.items() if getattr(gate, field) != getattr(GateSettings, field)]
    if given and not planned.branches:
        raise UserError(f"{planned.name} has no gate: leave {' and '.join(given)} out")


def _shortcuts(request: PhaseRequest) -> dict[str, Any]:
    given: dict[str, Any] = {"source": request.source, "target": request.target}
    changes: dict[str, Any] = {name: _absolute(value) for name, value in given.items() if value is not None}
    changes |= {} if request.task is None else task_fields(request.task)
    changes |= _layout(request.context)
    if request.data is not None:
        changes["task_data"] = str(request.data.expanduser().resolve())
    if request.plugin:
        changes["plugins"] = request.plugin
    return changes


def _layout(context: str | None) -> dict[str, Any]:
    """Return the spec's field that a --context sets, nothing if there is none.

    Raises:
        UserError: for an unknown context.
    """
    if context is None:
        return {}
    if context not in (*CONTEXTS, BOTH):
        raise UserError(f"--context {context}: use {', '.join((*CONTEXTS, BOTH))}")
    return {"layout": CONTEXTS[READS_PROMPT if context == BOTH else context]}


def task_fields(task: str) -> dict[str, Any]:
    """Return the spec's fields that a --task stands for: a name, MODULE:CLASS, or the file of a mapping.

    Raises:
        UserError: if the file is no mapping.
    """
    if not task.endswith(".toml"):
        return {"task": task}
    mapping = read_mapping(Path(task).expanduser())
    return {"task": MAPPED, "task_mapping": mapping.model_dump(mode="json")}


def _absolute(value: str) -> str:
    """Make a folder's path absolute: workers run in other folders. Hub names stay."""
    place = Path(value).expanduser()
    return str(place.resolve()) if place.is_dir() else value


def make_phase(name: str, base: JobSpec, request: PhaseRequest) -> Phase:
    """Return the phase of that name on a base spec, with the design, controls and contexts that the request names.

    Raises:
        UserError: for an unknown design, toggle, control or context, or a function that returns no phase.
    """
    phase = _phase(name, base, request)
    if request.controls is not None:
        phase = phase.with_controls(base, parse_controls(request.controls))
    return phase.with_both_contexts() if request.context == BOTH else phase


def _phase(name: str, base: JobSpec, request: PhaseRequest) -> Phase:
    _check_own_campaign(request)
    if request.campaign is not None:
        return _own_phase(request.campaign, base)
    if request.over and name != SWEEP:
        raise UserError(f"--over: the variants of {name} are fixed; use it with sweep")
    if name == SWEEP:
        axes = [parse_axis(text) for text in request.over]
        varied = {axis.field for axis in axes} | {find(name).field for name in request.toggle}
        if both := sorted(varied & _settings(request).keys()):
            raise UserError(f"--set {both[0]}: the sweep varies {both[0]}; leave one of the two out")
        return sweep(base, axes, among=request.toggle, search=request.search, trials=request.trials)
    if name == "ablate":
        return ablate(base, request.design or ("leave-one-out",), request.toggle or None)
    return PHASES[name](base)


def _check_own_campaign(request: PhaseRequest) -> None:
    if request.campaign is not None and (request.toggle or request.design):
        option = "--toggle" if request.toggle else "--design"
        raise UserError(f"{option} with --campaign: its function names the variants; leave one of the two out")


def _own_phase(reference: str, base: JobSpec) -> Phase:
    make = require_function("--campaign", reference)
    phase = make(base) if inspect.signature(make).parameters else make()
    if not isinstance(phase, Phase):
        raise UserError(f"--campaign {reference}: it returned a {type(phase).__name__}, not a Phase")
    return phase
