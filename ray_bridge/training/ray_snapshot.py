"""Ray Train's own list of a run's checkpoints, which must not stop a run whose checkpoints are whole."""

import logging
from pathlib import Path

from bridge_common.errors import UserError
from bridge_common.files import read_json

_SNAPSHOT = "checkpoint_manager_snapshot.json"
logger = logging.getLogger(__name__)


def remove_damaged_snapshot(folder: Path) -> None:
    """Remove Ray's list of a run's checkpoints if Ray would refuse it; the run then finds the checkpoints by itself.

    Ray rewrites the list in place, so a kill or a full disk can cut it off, and it may name a folder that is gone.

    Args:
        folder: the run's folder.
    """
    snapshot = folder / _SNAPSHOT
    if not snapshot.is_file():
        return
    try:
        named = [row["checkpoint_dir_name"] for row in read_json(snapshot)["checkpoint_results"]]
    except (UserError, LookupError, TypeError) as error:
        logger.warning("%s, Ray's list of checkpoints, is damaged and removed: %s", snapshot, error)
        snapshot.unlink()
        return
    if missing := [name for name in named if not (folder / name).is_dir()]:
        logger.warning("%s names checkpoints that are gone (%s), so it is removed", snapshot, ", ".join(missing))
        snapshot.unlink()


def listed_checkpoints(folder: Path) -> set[str]:
    """Return the names of the checkpoints that Ray has in its list of a run's, none if it cannot be read.

    Args:
        folder: the run's folder.
    """
    try:
        return {row["checkpoint_dir_name"] for row in read_json(folder / _SNAPSHOT)["checkpoint_results"]}
    except (OSError, UserError, LookupError, TypeError):
        return set()


def forget_snapshot(folder: Path) -> None:
    """Remove Ray's list of a run's checkpoints, to which those that a run without Ray Train adds would look older.

    Args:
        folder: the run's folder.
    """
    (folder / _SNAPSHOT).unlink(missing_ok=True)
