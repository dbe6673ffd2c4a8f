"""The campaigns of a storage: list them and choose one."""

from pathlib import Path

from bridge_common.errors import UserError
from tune_spaces.records.campaign_folder import CampaignFolder


def campaigns(storage: Path) -> list[str]:
    """Return the names of the campaigns in a storage, the one started last at the end."""
    started = [
        (record["starts"][-1]["time"], folder.name)
        for folder in CampaignFolder.all_in(storage)
        if (record := folder.campaign())
    ]
    return [name for _, name in sorted(started)]


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
