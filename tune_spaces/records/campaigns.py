"""The campaigns of a storage: list them and choose one."""

from pathlib import Path

from bridge_common.errors import UserError
from tune_spaces.records.campaign_folder import CampaignFolder


def campaigns(storage: Path) -> list[str]:
    """Return the names of the campaigns in a storage, the one started last at the end."""
    return [name for _, name in sorted((_started(folder), folder.name) for folder in CampaignFolder.all_in(storage))]


def _started(folder: CampaignFolder) -> float:
    """Return when a campaign was started last; if its record is damaged, when that was written.

    A campaign whose record is damaged must not hide the others of its storage.
    """
    try:
        return float((folder.campaign() or {})["starts"][-1]["time"])
    except (UserError, LookupError, TypeError):
        return folder.campaign_file.stat().st_mtime


def choose(storage: Path, name: str | None) -> str:
    """Return the name of a campaign after checking that it exists; by default that of the one started last.

    Raises:
        UserError: there is no such campaign, or none at all.
    """
    known = campaigns(storage)
    if name is None:
        if not known:
            raise UserError(f"no campaign in {storage}: start one with phase1, or name its folder with --storage")
        return known[-1]
    if name not in known:
        raise UserError(f"no campaign {name!r} in {storage}: there are {', '.join(known) or 'none'}")
    return name
