"""The options that every command about a phase takes, declared once.

A command is a function of an `Ask`; `phase_options` gives it the command line's signature. Declared per command, the
same options would stand in five places.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge_common.errors import UserError
from cluster.default_paths import default_reports, default_storage

STORAGE, REPORTS = default_storage(), default_reports()

Storage = Annotated[Path, typer.Option("--storage", help="folder of all campaigns")]
Name = Annotated[str | None, typer.Option("--name", help="name of the campaign, PHASE-PRESET by default")]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a command line asked for. Field names are the options'; help texts stand in `_OPTIONS`."""

    preset: str = "tiny"
    settings: tuple[str, ...] = ()
    source: str | None = None
    target: str | None = None
    task: str | None = None
    data: Path | None = None
    seeds: str = "0"
    storage: Path = STORAGE
    name: str | None = None
    tracking_uri: str | None = None
    reports: Path = REPORTS
    gate: str = "plain"
    gate_passes: float = 0.70
    gate_attribute: float = 0.65
    gate_budget: int = 3
    force: bool = False
    design: tuple[str, ...] = ()
    toggle: tuple[str, ...] = ()
    campaign: str | None = None
    job: str | None = None


_OPTIONS: dict[str, tuple[Any, Any]] = {
    "preset": (str, typer.Option("--preset", help="tiny: embedded pair, CPU; paper: 8B models, 4 GPUs")),
    "settings": (list[str], typer.Option("--set", metavar="FIELD=VALUE", help="a field of the job or the run")),
    "source": (str | None, typer.Option("--source", help="checkpoint that reads: folder or hub name")),
    "target": (str | None, typer.Option("--target", help="checkpoint that answers: folder or hub name")),
    "task": (str | None, typer.Option("--task", help="synthetic, gsm8k, math or hotpotqa")),
    "data": (Path | None, typer.Option("--data", help="folder with train.jsonl and test.jsonl")),
    "seeds": (str, typer.Option("--seeds", help="seeds of every variant, as in 0,1,2")),
    "storage": (Path, typer.Option("--storage", help="folder of all campaigns")),
    "name": (str | None, typer.Option("--name", help="name of the campaign, PHASE-PRESET by default")),
    "tracking_uri": (str | None, typer.Option("--tracking-uri", help="MLflow server or database; SQLite by default")),
    "reports": (Path, typer.Option("--reports", help="folder of the written reports")),
    "gate": (str, typer.Option("--gate", help="plain, or confident: more evidence while uncertain")),
    "gate_passes": (float, typer.Option("--gate-passes", help="accuracy that passes")),
    "gate_attribute": (float, typer.Option("--gate-attribute", help="accuracy below which A runs as well")),
    "gate_budget": (int, typer.Option("--gate-budget", help="runs that confident mode may add")),
    "force": (bool, typer.Option("--force", help="start without what has to come first; the record says so")),
    "design": (list[str], typer.Option("--design", help="leave-one-out, add-one-in, factorial, compression")),
    "toggle": (list[str], typer.Option("--toggle", help="toggles of the design; all by default")),
    "campaign": (str | None, typer.Option("--campaign", help="MODULE:FUNCTION that returns a Phase, given the base")),
    "job": (str | None, typer.Option("--job", hidden=True, help="MODULE:FUNCTION of another job")),
}
_ABLATION = ("design", "toggle", "campaign")


def phase_options(*, ablation: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a function of (ask, *own parameters) the options of a phase; `ablation` adds those that name a design."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            own = {name: given.pop(name) for name in list(given) if name not in _OPTIONS}
            values: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
            }
            function(Ask(**values), **own)

        defaults: dict[str, Any] = {f.name: f.default for f in fields(Ask)}
        parameters = [p for name, p in inspect.signature(function).parameters.items() if name != "ask"]
        for name, (kind, option) in _OPTIONS.items():
            if name in _ABLATION and not ablation:
                continue
            default = list(defaults[name]) if isinstance(defaults[name], tuple) else defaults[name]
            parameters.append(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
                )
            )
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from `0,1,2`.

    Raises:
        UserError: for anything else.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--seeds {text}: give whole numbers with commas, as in 0,1,2") from None


def parse_settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Fields from `field=value`; `none` stands for no value.

    Raises:
        UserError: where there is no `=`.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name.strip():
            raise UserError(f"--set {pair}: give field=value")
        found[name.strip()] = None if value.strip().lower() in ("none", "null") else value.strip()
    return found
