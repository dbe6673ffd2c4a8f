"""Read which commit trained a trial: its campaign's driver declares it, since jobs may run without `.git`."""

from collections.abc import Mapping
from typing import Any

from bridge_common.files import read_log
from bridge_common.trial_files import DECLARATIONS, GIT_COMMIT, GIT_DIRTY
from bridge_common.trial_folder import TrialFolder


def recorded_code(trial: TrialFolder) -> dict[str, str]:
    """Return the commit of the code that trained a trial, and whether files were changed; empty if neither is known.

    Args:
        trial: in its campaign's folder, STORAGE/CAMPAIGN/trials/NAME.
    """
    campaign = trial.path.parent.parent
    tags: Mapping[str, Any] = {}
    for row in read_log(campaign / DECLARATIONS):
        if row.get("kind") == "trial" and row.get("folder") == f"{trial.path.parent.name}/{trial.path.name}":
            tags = row.get("tags") or {}
    return {name: str(tags[name]) for name in (GIT_COMMIT, GIT_DIRTY) if name in tags}
