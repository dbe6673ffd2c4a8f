"""The command that starts a phase through a scheduler: Slurm, KubeRay, or `ray up`."""

from pathlib import Path

import click

from bridge_common.errors import UserError
from bridge_common.git import git_facts
from cluster.cli.checks import NEW_FILE
from cluster.cli.options import env_option, parse_settings, profile_option
from cluster.cli.phases import phase_argument


@click.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@click.argument("launcher", metavar="slurm|kuberay|ray-up")
@phase_argument
@click.option(
    "--nodes", type=click.IntRange(1, 100_000), help="nodes that run jobs  [default: 1, or all hosts of ray-up]"
)
@click.option("--gpus", type=click.IntRange(0, 1000), help="GPUs of a node  [default: what a job of the phase needs]")
@profile_option
@click.option("--site", multiple=True, metavar="FIELD=VALUE", help="a field of the site: partition, hours, image, ...")
@env_option
@click.option("--print", "shown", is_flag=True, help="print the file; the default")
@click.option("--out", type=NEW_FILE, help="write the file")
@click.option("--submit", "submitted", is_flag=True, help="submit it: sbatch, kubectl create, or ray up and ray exec")
@click.pass_context
def launch(
    context: click.Context,
    launcher: str,
    phase: str,
    nodes: int | None,
    gpus: int | None,
    profile: str | None,
    site: tuple[str, ...],
    env: tuple[str, ...],
    shown: bool,
    out: Path | None,
    submitted: bool,
) -> None:
    """Start a phase under Slurm, KubeRay or `ray up`.

    Prints the scheduler's file, writes it, or submits it. Further options are the phase's.
    """
    from cluster.cli.request import make_specs, parse_phase
    from cluster.launchers.kuberay import secret_note
    from cluster.launchers.launch import plan_launch
    from cluster.launchers.site import load_site
    from cluster.launchers.submit import render
    from cluster.launchers.submit import submit as submit_launch
    from cluster.variables import named_variables

    _, run = make_specs(parse_phase(phase, context.args))
    where = load_site(profile, parse_settings(site, "--site"))
    if nodes is None:
        nodes = max(1, len(where.hosts)) if launcher == "ray-up" else 1
    wanted = plan_launch(
        phase,
        context.args,
        run,
        site=where,
        nodes=nodes,
        gpus=gpus,
        variables=named_variables(env),
        code=git_facts(Path()) if launcher == "ray-up" else None,
    )
    text = render(launcher, wanted)
    if out is not None:
        try:
            out.write_text(text)
        except OSError as error:
            raise UserError(f"--out {out}: {error.strerror}; give the path of a file in a folder that exists") from None
        print(out)
    if submitted:
        if launcher == "kuberay" and (note := secret_note(wanted)):
            click.echo(note, nl=False, err=True)
        print(submit_launch(launcher, wanted), end="")
    if shown or not (out or submitted):
        print(text, end="")


COMMANDS = (launch,)
