"""Commands that plan and run a phase: phase1, phase2, phase3, rivals, ablate, sweep, plan and space."""

import click

from cluster.cli.ending import or_stopped
from cluster.cli.options import OPTIONS, PhaseRequest, any_phase_options, json_option
from tune_spaces.design.phases import DESIGNS
from tune_spaces.design.toggles import help_text

SUMMARY = {
    "phase1": "Run all toggles on; below the gate also run what attributes the gap (phase 1.5).",
    "phase2": "Swap the models; anchor in text by residual addition and gated adapters. Needs phase 1 passed.",
    "phase3": "Compression, conditioning, other tasks, a larger target. Needs phase 1 passed, and free GPUs.",
    "rivals": "Run the field's rivals beside `full`, under the same controls. Needs phase 1 passed.",
    "ablate": f"Run any toggles under any design: {', '.join(DESIGNS)}.",
    "sweep": "Vary any settings by a grid, at random or by Optuna; trials may end early on validation accuracy.",
}

phase_argument = click.argument("phase", metavar="|".join(OPTIONS))


class PhaseCommand(click.Command):
    """A command about a phase; its help ends with the toggles that are registered when it is shown."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the toggles, one paragraph each."""
        with formatter.section("Toggles, which the variants set and --set holds fixed"):
            formatter.write_text(help_text())


def _run_command(name: str) -> click.Command:
    @click.command(name, cls=PhaseCommand, help=SUMMARY[name])
    @OPTIONS[name]
    def command(request: PhaseRequest) -> int:
        def run() -> int:
            from cluster.cli.run import run_phase

            return run_phase(name, request)

        return or_stopped(run)

    return command


@click.command(cls=PhaseCommand)
@phase_argument
@click.option(
    "--gpu-memory",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GB",
    help="memory of each GPU that will be used  [default: this machine's, or 80]",
)
@json_option
@any_phase_options
def plan(request: PhaseRequest, phase: str, gpu_memory: float | None, as_json: bool) -> None:
    """Print and freeze the trials of a phase with their cost.

    Prints the decision tree, what each comparison can resolve, which trials are finished already, and whether texts fit
    into both models' contexts and jobs into memory.
    """
    from cluster.cli.plan import print_plan

    print_plan(phase, request, gpu_memory, as_json)


@click.command()
@phase_argument
@any_phase_options
@json_option
def space(request: PhaseRequest, phase: str, as_json: bool) -> None:
    """Print Ray Tune's search space of a phase: the values of every setting that its trials vary."""
    from cluster.cli.space import print_space

    print_space(phase, request, as_json)


COMMANDS = (*(_run_command(name) for name in OPTIONS), plan, space)
