"""Commands about the cluster that a phase runs on: looking at it, clearing old logs, and sending a phase to it."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.options import Ask, phase_options
from tune_spaces.design.phases import PHASES

Address = Annotated[str | None, typer.Option(help="the dashboard's, http://HOST:8265; $RAY_ADDRESS by default")]


@phase_options(ablation=True)
def preflight(ask: Ask, phase: Annotated[str, typer.Argument(help=", ".join(PHASES))] = "phase1") -> None:
    """Check everything that a phase will need, on every node that may be used, before any GPU-hour is spent."""
    from cluster.cli.request import make_campaign
    from cluster.preflight.check import PreflightSettings
    from cluster.preflight.run import preflight as look
    from cluster.preflight.run import print_checks

    campaign = make_campaign(phase, ask)
    checks = look(
        PreflightSettings.for_run(
            campaign.base,
            campaign.run_spec,
            storage=campaign.storage,
            tracking_uri=ask.tracking_uri,
        )
    )
    print_checks(checks)
    raise typer.Exit(1 if any(check.status == "fail" for check in checks) else 0)


def archive(
    logs: Annotated[list[Path], typer.Argument(help="files and folders to move")],
    into: Annotated[Path, typer.Option(help="the archive's folder")] = Path("archive"),
) -> None:
    """Move logs of earlier runs into a dated folder with a manifest; nothing is lost."""
    from cluster.archive import archive as move

    print(move(logs, into))


def submit(
    context: typer.Context,
    phase: Annotated[str, typer.Argument(help=", ".join(PHASES))],
    address: Address = None,
    env: Annotated[list[str] | None, typer.Option(metavar="NAME[=VALUE]", help="a variable for the job")] = None,
    follow: Annotated[bool, typer.Option(help="print the job's log until it ends")] = True,
) -> None:
    """Run a phase as a job of a Ray cluster; further options are the phase's. Exits as the phase does."""
    from cluster.jobs.submit import submit as send

    raise typer.Exit(send(phase, context.args, address=address, env=env or (), follow=follow))


COMMANDS = (preflight, archive)
