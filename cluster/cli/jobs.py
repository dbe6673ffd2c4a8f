"""Commands about jobs of a Ray cluster: submit a phase as one, and list, follow and stop those that were submitted."""

import click

from bridge_common.errors import UserError
from cluster.cli.checks import NumberType
from cluster.cli.options import address_option, env_option
from cluster.cli.phases import phase_argument

job_argument = click.argument("job")


@click.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@phase_argument
@address_option
@env_option
@click.option("--follow/--no-follow", default=True, help="print the job's log until it ends")
@click.pass_context
def submit(context: click.Context, phase: str, address: str | None, env: tuple[str, ...], follow: bool) -> int:
    """Run a phase as a job of a Ray cluster.

    Further options are the phase's. Exits with the phase's exit code.
    """
    from cluster.cli.request import parse_phase
    from cluster.jobs.submit import submit as submit_phase
    from cluster.variables import unsent_note

    parse_phase(phase, context.args)
    if note := unsent_note(env):
        click.echo(note, err=True)
    return submit_phase(phase, context.args, address=address, env=env, follow=follow)


@click.group()
def jobs() -> None:
    """List, follow and stop phases that were submitted to a Ray cluster."""


@jobs.command("list")
@address_option
def list_jobs(address: str | None) -> None:
    """Print the submitted phases, oldest first: job, status, exit code, start, command."""
    from cluster.jobs.manage import print_jobs

    print_jobs(address)


@jobs.command()
@job_argument
@address_option
def follow(job: str, address: str | None) -> int:
    """Print a job's log until it ends. Exits with the phase's exit code."""
    from cluster.jobs.client import connect
    from cluster.jobs.follow import follow_job

    return follow_job(connect(address), job)


@jobs.command()
@click.argument("job", required=False)
@click.option("--all", "every", is_flag=True, help="stop every submitted phase that runs")
@address_option
@click.option("--timeout", type=NumberType(min=0), default=60.0, help="seconds to wait for the end")
def stop(job: str | None, every: bool, address: str | None, timeout: float) -> None:
    """Stop a job, or all, and wait until Ray has ended it. To go on, submit the same phase again."""
    from cluster.jobs.manage import stop_jobs

    if (job is None) != every:
        raise UserError("name one JOB of `jobs list`, or give --all")
    stopped = stop_jobs(job, address=address, timeout_s=timeout)
    print("\n".join(f"stopped {name}" for name in stopped) or "no submitted phase was running")


COMMANDS = (submit, jobs)
