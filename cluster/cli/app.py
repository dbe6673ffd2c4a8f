"""The command line, put together from its groups: one module here a group of commands.

Commands import what is heavy when they run, so that help and mistakes answer at once.
"""

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from bridge_common.errors import UserError
from bridge_common.visible_text import visible
from cluster.cli import (
    benchmark,
    campaigns,
    jobs,
    launch,
    phases,
    preflight,
    registries,
    reports,
    score,
    serve,
    translators,
)
from cluster.cli.checks import prepare_output
from cluster.program import as_called, program


class Sections(click.Group):
    """A group whose help lists the commands in sections, in the order in which they are used."""

    def __init__(self, sections: Mapping[str, Sequence[click.Command]], **settings: Any) -> None:
        commands = [command for section in sections.values() for command in section]
        super().__init__(commands=commands, **settings)
        self.sections = sections

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section after the other, with the first sentence of each command."""
        width = max(map(len, self.commands))
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{command.name:<{width}}", command.get_short_help_str(limit=400)) for command in commands]
                )


app = Sections(
    {
        "Run a phase": phases.COMMANDS,
        "Campaigns": campaigns.COMMANDS,
        "Results": (*reports.COMMANDS, *score.COMMANDS),
        "Use what was trained": (*translators.COMMANDS, *serve.COMMANDS, *benchmark.COMMANDS),
        "What a request may name": registries.COMMANDS,
        "Clusters": (*preflight.COMMANDS, *launch.COMMANDS, *jobs.COMMANDS),
    },
    name="ablate",
    help="Ablations of cross-model translators on a Ray cluster.",
    context_settings={"show_default": True, "max_content_width": 120},
)


def main() -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 wrong request.

    A command returns its exit code, or None for 0. What is wrong with a request is one line on standard error.
    """
    prepare_output()
    sys.path.append(os.getcwd())  # where plug-ins lie; `python -m` looks there by itself, the installed script does not
    try:
        return app.main(standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else program()
        print(f"error: {error.format_message().rstrip('.')}; see `{path} --help`", file=sys.stderr)
    except UserError as error:
        message = " ".join(as_called(str(error)).splitlines())  # it may repeat a name that has several
        print(f"error: {visible(message)}", file=sys.stderr)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        where = "the disk of the output" if error.filename is None else error.filename
        print(f"error: {where}: {error.strerror}", file=sys.stderr)
        _give_up_output()
    except click.Abort:
        return 1
    return 2


def _give_up_output() -> None:
    """Drop what cannot be printed: it would fail once more at the interpreter's end, with other lines and exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
