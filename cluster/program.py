"""The name by which a user calls the command line, for messages that name a command."""

import shlex
import sys
from pathlib import Path

MODULE, SCRIPT = "python -m cluster", "ablate"


def program() -> str:
    """Return `ablate` if the installed script runs, else `python -m cluster`."""
    return SCRIPT if Path(sys.argv[0]).stem == SCRIPT else MODULE


def command(*words: object) -> str:
    """Return a command as a user can paste it into a shell, such as one with a path that has spaces."""
    return f"{program()} {shlex.join(map(str, words))}"


def as_called(message: str) -> str:
    """Return a message whose commands are named as the user calls them."""
    return message.replace(MODULE, program())
