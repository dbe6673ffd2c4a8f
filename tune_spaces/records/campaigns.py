"""The campaigns of a storage: list them, choose one, and see whether one is being driven."""

from pathlib import Path

from bridge_common import files
from bridge_common.errors import UserError
from tune_spaces.records import campaign_folder


def campaigns(storage: Path) -> list[str]:
    """Names of the campaigns in a storage, the one started last at the end."""
    found = [
        (files.read_json(path), path.parent.name) for path in storage.expanduser().glob(f"*/{campaign_folder.CAMPAIGN}")
    ]
    return [name for _, name in sorted((asked["starts"][-1]["time"], name) for asked, name in found)]


def choose(storage: Path, name: str | None) -> str:
    """The campaign that is meant: the named one, or the one that was started last.

    Raises:
        UserError: where there is none.
    """
    known = campaigns(storage)
    if name is None:
        if not known:
            raise UserError(f"no campaign in {storage}: start one with phase1, or name its folder with --storage")
        return known[-1]
    if name not in known:
        raise UserError(f"no campaign {name!r} in {storage}: there are {', '.join(known) or 'none'}")
    return name


def is_driven(folder: Path) -> bool:
    """Whether a driver holds the campaign."""
    from filelock import FileLock, Timeout

    if not (folder / campaign_folder.LOCK).exists():
        return False
    lock = FileLock(folder / campaign_folder.LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
