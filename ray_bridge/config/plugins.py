"""Import modules that a spec names: plug-ins, and the modules of classes given as MODULE:CLASS.

A spec imports them when it is validated, so every process that holds a spec (the driver, a trial of Tune, a worker of
Train, a command that reads a campaign) has imported its plug-ins before it looks a name up.
"""

import importlib
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from bridge_common.errors import UserError, reason_of

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def check_plugin_name(module: str) -> None:
    """Refuse what is no module's dotted name.

    Raises:
        UserError: naming it.
    """
    if not _NAME.fullmatch(module):
        raise UserError(f"plug-in {module!r}: give a module's dotted name, as in `import NAME`, not a path")


def import_plugin(module: str) -> ModuleType:
    """Import a module by its dotted name.

    Raises:
        UserError: if it cannot be imported here; the line says where a plug-in has to lie.
    """
    check_plugin_name(module)
    try:
        return importlib.import_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a script may end the process where it is imported
        missing = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        remedy = (
            "start in the folder that holds it, send that folder with `ray job submit --working-dir`, or install it on "
            "every node"
            if missing
            else f"`python -c 'import {module}'` shows where it fails"
        )
        reason = str(error) if missing else reason_of(error)
        raise UserError(
            f"plug-in {module} cannot be imported on {socket.gethostname()} ({reason}): {remedy}"
        ) from error


def import_plugins(record: Mapping[str, Any]) -> None:
    """Import what the record of a spec names: its plug-ins, and the modules of a task or bridge given as MODULE:CLASS.

    Raises:
        UserError: as `import_plugin`.
    """
    for module in named_modules(record):
        import_plugin(module)


def named_modules(record: Mapping[str, Any]) -> list[str]:
    """Return the modules that the record of a spec names: its plug-ins, and those of a task or bridge MODULE:CLASS."""
    named = [record.get(field, "").partition(":") for field in ("task", "bridge")]
    return [*record.get("plugins", ()), *(module for module, colon, _ in named if colon)]


def source_of(module: ModuleType) -> Path:
    """Return where a module's source lies: its file, or a package's folder.

    Raises:
        UserError: if it has neither, so that nobody could tell one version from another.
    """
    file = getattr(module, "__file__", None)
    folders = list(getattr(module, "__path__", ()))
    if file is None and len(folders) != 1:
        raise UserError(f"plug-in {module.__name__} has no source file: name a module that is a file or a package")
    return Path(folders[0]) if folders else Path(str(file))
