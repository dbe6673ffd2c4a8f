"""Data sets on the Hugging Face hub: the commit that a name there stands for, and what this machine's cache has."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bridge_common.errors import UserError
from bridge_common.hub_connection import hub_answers
from ray_bridge.tasks.data.load_split import no_progress_bars
from ray_bridge.tasks.data.rows import DataRow

ALL = "*"
"""Stands for all configurations of a data set."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHARD = re.compile(r"(.*-)\d{5}(-of-\d{5})(\..*)")
_PATIENCE = 10.0  # seconds for the hub's answer


class HubUnreachableError(UserError):
    """The hub does not answer, and this machine's cache does not know the data set."""


@dataclass(frozen=True, kw_only=True)
class HubData:
    """A data set on the hub.

    Attributes:
        name: OWNER/NAME.
        config: its configuration, several of them, `ALL`, or None if it has one only.
        split_names: the names of its splits, where they differ from "train" and "test".
    """

    name: str
    config: str | tuple[str, ...] | None = None
    split_names: Mapping[str, str] = field(default_factory=dict)


def chosen_configs(config: str | tuple[str, ...] | None, there: Sequence[str]) -> Sequence[str | None]:
    """Return the configurations to read, in a fixed order, of those that a data set has."""
    if config == ALL:
        return sorted(there)
    return list(config) if isinstance(config, tuple) else [config]


def numbered_rows(rows: Iterator[Mapping[str, object]], config: str | None, file: str) -> Iterator[DataRow]:
    """Return rows with their place; each also holds its configuration, as `config`, unless it has such a field."""
    for number, row in enumerate(rows, 1):
        fields = row if config is None or "config" in row else {**row, "config": config}
        yield DataRow(fields=fields, file=file, place=f"row {number}")


def hub_commit(name: str, revision: str | None) -> str:
    """Return the commit that a data set's revision stands for now: as the hub says, or else this machine's cache.

    Args:
        name: OWNER/NAME.
        revision: a branch, a tag or a commit; None for the main branch.

    Raises:
        HubUnreachableError: if neither knows.
        UserError: if the hub does not have it, or does not give access.
    """
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    asked = revision or "main"
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    problem = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub does not answer"
    if hub_answers():
        try:
            commit = HfApi().dataset_info(name, revision=asked, timeout=_PATIENCE).sha
            return str(commit)
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status in (401, 403, 404):
                raise UserError(
                    f"the hub has no data set {name} at revision {asked}, or gives no access to it ({status}): "
                    "check the name, accept its licence, set HF_TOKEN, or give its files with --data DIR"
                ) from error
            problem = f"the hub answers {status}"
        except (OSError, OfflineModeIsEnabled, _transport_error()) as error:
            problem = f"the hub does not answer ({error})"
    cached = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}"
    if (reference := cached / "refs" / asked).is_file():
        return reference.read_text().strip()
    commits = [path.name for path in cached.glob("snapshots/*")]
    if asked == "main" and len(commits) == 1:  # what was read at a commit has no reference
        return commits[0]
    raise HubUnreachableError(
        f"{problem}, and this machine has {'several copies' if commits else 'no copy'} of {name}: give its files with "
        "--data DIR, or its commit with "
        "--set task_revision=COMMIT"
    )


def cached_snapshot(name: str, revision: str | None) -> Path | None:
    """Return the folder of a data set's revision in this machine's cache of the hub, or None if it is not all there.

    The files of a split that is in several, such as `train-00000-of-00002.parquet`, are all there or the folder is not
    used.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        with no_progress_bars():
            folder = Path(snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    files = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    shards = [match for match in map(_SHARD.fullmatch, files) if match]
    whole = all(f"{m[1]}{n:05d}{m[2]}{m[3]}" in files for m in shards for n in range(int(m[2][4:])))
    return folder if whole else None


def _transport_error() -> type[Exception]:
    """Return what the hub's client raises if there is no connection."""
    import httpx

    return httpx.TransportError
