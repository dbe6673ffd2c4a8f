"""Refuse code that a translator from elsewhere names, unless its user trusts the module. Free of torch."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from bridge_common.trial_files import TRIALS
from bridge_common.trial_folder import TrialFolder
from ray_bridge.inference.places import CONFIG_FILE


def is_own_trial(folder: Path) -> bool:
    """Return whether a local folder is a trial in a storage of one's own, STORAGE/CAMPAIGN/trials/NAME.

    A `spec.json` alone does not make it one: an exported folder may hold a file of that name.
    """
    in_storage = folder.resolve().parent.name == TRIALS
    return in_storage and TrialFolder(folder).begun and not (folder / CONFIG_FILE).exists()


def check_modules(place: str | Path, spec: Any, trusted: Collection[str]) -> None:
    """Refuse the record of a spec that names a module which is not trusted; nothing is imported.

    Args:
        place: what the record was read from, for the message.
        spec: the record, as it was read.
        trusted: dotted names of modules; a package does not vouch for its modules.

    Raises:
        UserError: if a plug-in, or the module of a task or bridge given as MODULE:CLASS, is not trusted.
    """
    unknown = [module for module in _modules(spec) if module not in trusted]
    if unknown:
        names = ", ".join(repr(module) for module in dict.fromkeys(unknown))
        options = " ".join(f"--plugin {module}" for module in dict.fromkeys(unknown) if module.isprintable())
        raise UserError(
            f"{place} names code to import, {names}: read it, and if you trust it add {options} "
            "(in Python plugins=(...,))"
        )


def _modules(spec: Any) -> list[str]:
    if not isinstance(spec, Mapping):
        return []
    plugins = spec.get("plugins") or ()
    listed = plugins.split(",") if isinstance(plugins, str) else plugins
    named = [str(spec.get(field)) for field in ("task", "bridge")]
    classes = [name.partition(":")[0] for name in named if ":" in name]
    return [module.strip() for module in (*map(str, listed), *classes) if module.strip()]
