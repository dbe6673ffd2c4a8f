"""The command line. Nothing heavy is imported before a command needs it: help and mistakes answer at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli import infrastructure, reports
from cluster.cli.options import STORAGE, Ask, Name, Storage, phase_options
from tune_spaces.design.phases import PHASES
from tune_spaces.design.toggles import help_text

PURPOSE = {
    "phase1": "Run full; below the gate go on with the variants that attribute what is missing (phase 1.5).",
    "phase2": "Swap the models, and anchor in text by residual addition and gated adapters. After phase 1 has passed.",
    "phase3": "Compression, conditioning, other tasks, a larger target. After phase 1 has passed, on free GPUs.",
    "ablate": "Any set of toggles under any design: leave-one-out, add-one-in, factorial, compression.",
}


def make_app() -> typer.Typer:
    """The application, with the registered toggles in its help."""
    app = typer.Typer(
        name="ablate",
        help="Ablations of cross-model translators on a Ray cluster.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    toggles = f"Toggles, which the variants set and --set holds:\n\n{help_text()}"
    for name in PHASES:
        app.command(name, help=PURPOSE[name], epilog=toggles)(_phase_command(name))
    app.command("plan", epilog=toggles)(phase_options(ablation=True)(plan))
    for command in (resume, status, stop, results, *reports.COMMANDS, *infrastructure.COMMANDS):
        app.command()(command)
    passes_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(context_settings=passes_on)(infrastructure.submit)
    return app


def _phase_command(name: str) -> Callable[..., None]:
    @phase_options(ablation=name == "ablate")
    def command(ask: Ask) -> None:
        from cluster.cli.run import run_phase

        raise typer.Exit(run_phase(name, ask))

    return command


def plan(ask: Ask, phase: Annotated[str, typer.Argument(help=", ".join(PHASES))]) -> None:
    """Print and freeze the decision tree of a phase: trials, cost, what it can resolve, what is done already."""
    from cluster.cli.plan import print_plan

    print_plan(phase, ask)


def resume(storage: Storage = STORAGE, name: Name = None, force: bool = False, job: str | None = None) -> None:
    """Go on with a campaign as it was asked for; finished trials are not run again."""
    from cluster.cli.run import resume_campaign

    raise typer.Exit(resume_campaign(storage, name, force=force, job=job))


def status(storage: Storage = STORAGE, name: Name = None) -> None:
    """Say where campaigns stand: trials, gate, driver."""
    from cluster.cli.campaigns import print_status

    print_status(storage, name)


def stop(
    storage: Storage = STORAGE,
    name: Name = None,
    timeout: Annotated[float, typer.Option(help="seconds to wait for its end")] = 60.0,
) -> None:
    """End a running campaign; `resume` goes on with it."""
    from cluster.cli.campaigns import stop_campaign

    raise typer.Exit(stop_campaign(storage, name, timeout))


def results(
    storage: Storage = STORAGE,
    name: Name = None,
    kind: Annotated[str, typer.Option("--format", help="csv, parquet or json")] = "csv",
    out: Annotated[Path | None, typer.Option(help="file; results.FORMAT in the campaign's folder by default")] = None,
) -> None:
    """Write one row a trial: configuration, metrics, how it ended."""
    from cluster.cli.campaigns import export_results

    export_results(storage, name, kind, out)
