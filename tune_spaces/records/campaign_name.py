"""Check the name of a campaign, which is the name of its folder in the storage."""

from pathlib import Path

from bridge_common.errors import UserError
from bridge_common.paths import short, text_problem

LONGEST = 120
"""Bytes: the folder's name stands in the paths of checkpoints and in names of runs."""
_RESERVED = ("mlflow.db", "mlartifacts", "archive", "paper_writing")
"""Names that a storage has for other things."""


def check_name(storage: Path, name: str) -> None:
    """Refuse a name that no folder of a campaign can have.

    Args:
        storage: folder of all campaigns.
        name: the name.

    Raises:
        UserError: in one line, with the remedy.
    """
    problem = text_problem(name, LONGEST)
    if problem is None and (name.startswith((".", "-")) or "/" in name or name != name.strip()):
        problem = f"{short(name)} holds a slash, or begins or ends with a blank, or begins with a dot or a dash"
    if problem is None and (name in _RESERVED or (storage / name).is_file()):
        problem = f"the storage has another {name}"
    if problem is not None:
        raise UserError(f"campaign name: {problem}; use a plain folder name")
