"""The name by which a user calls the command line, for messages that name a command."""

import sys
from pathlib import Path

MODULE, SCRIPT = "python -m cluster", "ablate"


def program() -> str:
    """Return `ablate` if the installed script runs, else `python -m cluster`."""
    return SCRIPT if Path(sys.argv[0]).stem == SCRIPT else MODULE


def as_called(message: str) -> str:
    """Return a message whose commands are named as the user calls them."""
    return message.replace(MODULE, program())
