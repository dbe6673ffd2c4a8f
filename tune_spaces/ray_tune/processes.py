"""Find processes of Ray on this machine, by name and by an argument that tells one Ray from another."""

from collections.abc import Iterator
from contextlib import suppress

import psutil


def processes_of_ray(name: str, argument: str) -> Iterator[psutil.Process]:
    """Yield the processes of a name, such as raylet, that were started with an argument and that this user sees."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.name() == name and argument in process.cmdline():
                yield process
