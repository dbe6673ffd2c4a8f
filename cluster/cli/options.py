"""Every option that more than one command takes, declared once, and `PhaseRequest`, what a command line asks for."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from bridge_common.errors import UserError
from bridge_common.paths import plain
from cluster.cli.checks import FOLDER, KNOWN_FOLDER, MODEL, NOTICES, RECORDED_URI, NumberType
from cluster.default_paths import default_reports, default_storage
from cluster.variables import NOTIFY
from ray_bridge.config.plugins import import_plugin
from tune_spaces.analysis.contexts import CONTEXTS
from tune_spaces.design.phases import DESIGNS, PHASES
from tune_spaces.design.sweep import SWEEP
from tune_spaces.design.variants import CONTROLS

Command = Callable[..., Any]
BOTH = "both"  # contexts
MOST_EXTRA_RUNS = 100
"""Of the gate: each is planned ahead, and more would never be run."""
MOST_SEEDS, LARGEST_SEED = 500, 2**32 - 1

json_option = click.option("--json", "as_json", is_flag=True, help="print JSON")
storage_option = click.option("--storage", type=KNOWN_FOLDER, default=default_storage(), help="folder of all campaigns")
new_storage_option = click.option("--storage", type=FOLDER, default=default_storage(), help="folder of all campaigns")
name_option = click.option("--name", help="name of the campaign  [default: the one started last]")
reports_option = click.option("--reports", type=FOLDER, default=default_reports(), help="folder of the written reports")
address_option = click.option(
    "--address", metavar="URL", help="of the Ray dashboard, http://HOST:8265  [default: $RAY_ADDRESS]"
)
env_option = click.option("--env", multiple=True, metavar="NAME[=VALUE]", help="environment variable for the job")
profile_option = click.option("--profile", help="settings of a site: hpc, or a TOML file")
force_option = click.option("--force", is_flag=True, help="start although a required phase has not passed; recorded")
skip_preflight_option = click.option(
    "--skip-preflight", is_flag=True, help="start without checking models, storage, memory and nodes; recorded"
)
resident_option = click.option(
    "--resident",
    is_flag=True,
    help="keep models loaded between trials, which then start sooner (resident=true); not with --stop-early",
)
parallel_option = click.option(
    "--parallel",
    default="auto",
    metavar="auto|N",
    help="trials at once: auto, as many as the cluster holds; or a number, also above that, for one that grows",
)
max_gpu_hours_option = click.option(
    "--max-gpu-hours",
    type=NumberType(min=0, min_open=True),
    help="GPU-hours of the whole campaign: nothing starts that would exceed them",
)
until_option = click.option(
    "--until", metavar="TIME", help="18:30, 2026-11-27T06:00 or +8h: nothing starts that cannot end by then"
)
notify_option = click.option(
    "--notify",
    type=NOTICES,
    envvar=NOTIFY,
    metavar="URL",
    help=f"post a JSON object there at each decision, failure, and the end  [default: ${NOTIFY}]",
)
verbose_option = click.option(
    "--verbose", is_flag=True, help="at the end also print each trial's conditions and the effects of toggles"
)
allow_changed_code_option = click.option(
    "--allow-changed-code", is_flag=True, help="continue trials that another version of the code has begun; recorded"
)
START_OPTIONS = (
    *(parallel_option, max_gpu_hours_option, until_option),
    *(notify_option, verbose_option, allow_changed_code_option),
)
"""Options of every command that starts or continues a campaign."""
job_option = click.option("--job", hidden=True, help="MODULE:FUNCTION that replaces the translator job")


def _import_plugins(context: click.Context, parameter: click.Parameter, modules: tuple[str, ...]) -> tuple[str, ...]:
    for module in modules:
        import_plugin(module)
    return modules


plugin_option = click.option(
    "--plugin",
    multiple=True,
    metavar="MODULE",
    is_eager=True,  # so that a --help after it shows what the module registers
    callback=_import_plugins,
    help="module with tasks, bridges or toggles of your own; repeatable",
)

_PHASE = (
    click.option("--preset", default="tiny", help="tiny: embedded pair, CPU; paper: 8B models, 4 GPUs"),
    click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="a field of the job or the run"),
    click.option("--source", type=MODEL, help="checkpoint that reads: folder or hub name"),
    click.option("--target", type=MODEL, help="checkpoint that answers: folder or hub name"),
    click.option("--task", help="name that `tasks` lists, MODULE:CLASS, or a mapping's FILE.toml"),
    plugin_option,
    click.option("--data", type=FOLDER, help="folder with train.jsonl and test.jsonl, or with parquet, csv or arrow"),
    click.option("--seeds", default="0", help="seeds of every variant, as in 0,1,2"),
    click.option(
        "--controls",
        is_flag=False,
        flag_value=",".join(CONTROLS),
        metavar="[NAMES]",
        help=f"also run controls, apart from the plan's effects: {', '.join(CONTROLS)}  [without names: all]",
    ),
    click.option(
        "--context",
        metavar="|".join((*CONTEXTS, BOTH)),
        help="whether the target reads the prompt; both also runs each first variant without it",
    ),
    new_storage_option,
    click.option("--name", help="name of the campaign  [default: PHASE-PRESET]"),
    click.option(
        "--tracking-uri", type=RECORDED_URI, help="MLflow server or database  [default: SQLite in the storage]"
    ),
    reports_option,
    click.option("--gate", default="plain", help="plain, or confident: more evidence while uncertain"),
    click.option("--gate-passes", type=float, default=0.70, help="accuracy that passes"),
    click.option("--gate-attribute", type=float, default=0.65, help="accuracy below which A runs as well"),
    click.option(
        "--gate-budget", type=click.IntRange(0, MOST_EXTRA_RUNS), help="runs that confident mode may add  [default: 3]"
    ),
    *START_OPTIONS,
    resident_option,
    force_option,
    skip_preflight_option,
    job_option,
)
_ABLATION = (
    click.option("--design", multiple=True, help=f"{', '.join(DESIGNS)}; repeatable"),
    click.option("--toggle", multiple=True, help="toggle of the design; repeatable  [default: all]"),
    click.option("--campaign", metavar="MODULE:FUNCTION", help="function that returns a Phase, given the base"),
)
_SWEEP = (
    click.option("--over", multiple=True, metavar="FIELD=VALUES", help="A,B,C; log:LOW:HIGH, lin:, int:; repeatable"),
    click.option(
        "--search",
        default="grid",
        help="grid: every combination; random: drawn with a fixed seed; optuna: by what earlier trials have shown",
    ),
    click.option(
        "--trials",
        type=click.IntRange(min=1),
        help="points that are drawn or proposed; of a grid, the most  [default: 32]",
    ),
    click.option("--stop-early", help="asha: end trials whose validation accuracy falls behind"),
)


@dataclass(frozen=True, kw_only=True)
class StartRequest:
    """The `START_OPTIONS` as given on the command line."""

    parallel: str = "auto"
    max_gpu_hours: float | None = None
    until: str | None = None
    notify: str | None = None
    verbose: bool = False
    allow_changed_code: bool = False


@dataclass(frozen=True, kw_only=True)
class PhaseRequest(StartRequest):
    """The options of a phase as given on the command line. The fields are named after the options."""

    preset: str
    settings: tuple[str, ...]
    source: str | None
    target: str | None
    task: str | None
    plugin: tuple[str, ...]
    data: Path | None
    seeds: str
    controls: str | None
    context: str | None
    storage: Path
    name: str | None
    tracking_uri: str | None
    reports: Path
    gate: str
    gate_passes: float
    gate_attribute: float
    gate_budget: int | None
    resident: bool
    force: bool
    skip_preflight: bool
    job: str | None
    design: tuple[str, ...] = ()
    toggle: tuple[str, ...] = ()
    campaign: str | None = None
    over: tuple[str, ...] = ()
    search: str = "grid"
    trials: int | None = None
    stop_early: str | None = None


def start_options(command: Command) -> Command:
    """Add the `START_OPTIONS` to a command, which receives them as `start`, a `StartRequest`."""

    @functools.wraps(command)
    def with_start(**values: Any) -> Any:
        own = {field.name: values.pop(field.name) for field in fields(StartRequest)}
        return command(start=StartRequest(**own), **values)

    decorated: Command = with_start
    for option in reversed(START_OPTIONS):
        decorated = option(decorated)
    return decorated


def phase_options(command: Command) -> Command:
    """Add the options of a phase to a command, which receives them as its first argument, a `PhaseRequest`."""
    return _with_options(command, _PHASE)


def ablation_options(command: Command) -> Command:
    """Add the options of a phase and those that describe a design of one's own."""
    return _with_options(command, _PHASE + _ABLATION)


def sweep_options(command: Command) -> Command:
    """Add the options of a phase and those that describe a sweep."""
    toggle = click.option("--toggle", multiple=True, help="toggle that is varied, too, on and off; repeatable")
    return _with_options(command, (*_SWEEP, toggle, *_PHASE))


def any_phase_options(command: Command) -> Command:
    """Add the options of every phase, for commands that take the phase as an argument."""
    return _with_options(command, _PHASE + _ABLATION + _SWEEP)


def _with_options(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    names = {field.name for field in fields(PhaseRequest)}

    @functools.wraps(command)
    def with_request(**values: Any) -> Any:
        own = {name: values.pop(name) for name in list(values) if name not in names}
        return command(PhaseRequest(**values), **own)

    decorated: Command = with_request
    for option in reversed(options):  # as a stack of decorators, so that help lists them in order
        decorated = option(decorated)
    return decorated


OPTIONS: dict[str, Callable[[Command], Command]] = {
    **dict.fromkeys(PHASES, phase_options),
    "ablate": ablation_options,
    SWEEP: sweep_options,
}
"""What adds the options of each phase to its command, by the phase's name."""


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse seeds from `0,1,2`.

    Raises:
        UserError: if it is anything else.
    """
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--seeds {plain(text)}: give whole numbers with commas, as in 0,1,2") from None
    if len(seeds) > MOST_SEEDS:
        raise UserError(f"--seeds: {len(seeds)} of them, at most {MOST_SEEDS} are planned in one campaign")
    if not all(0 <= seed <= LARGEST_SEED for seed in seeds):
        raise UserError(f"--seeds {plain(text)}: give whole numbers from 0 to {LARGEST_SEED}")
    return seeds


def parse_controls(text: str) -> tuple[str, ...]:
    """Parse the names of controls from `constant,random_source`.

    Raises:
        UserError: for an unknown name.
    """
    names = tuple(part.strip() for part in text.split(","))
    if unknown := [name for name in names if name not in CONTROLS]:
        raise UserError(f"--controls {text}: there is no {unknown[0]!r}; there are {', '.join(CONTROLS)}")
    return names


def parse_settings(pairs: tuple[str, ...], option: str = "--set") -> dict[str, Any]:
    """Parse `field=value` settings; `none` stands for no value.

    Args:
        pairs: the settings.
        option: the option that gave them.

    Raises:
        UserError: if one has no `=`.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name.strip():
            raise UserError(f"{option} {pair}: give field=value")
        settings[name.strip()] = None if value.strip().lower() in ("none", "null") else value.strip()
    return settings
