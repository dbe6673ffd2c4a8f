"""Measure what a submitted job would upload, by Ray's own rules, before anything is sent.

Ray's dashboard refuses more than 100 MiB, but only after the whole upload; folders of runs or weights are often larger.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge_common.errors import UserError

EXCLUDES = ("/runs/", "/.venv/", "/venv/", "/.git", "/mlruns/", "/mlartifacts/", "*.db", "__pycache__/", ".*_cache/")
MOST_BYTES = 100 * 2**20  # that the dashboard accepts
_NAMED = 5  # entries that an error names
_NOT_SEARCHED = {".git", ".venv", "venv", "__pycache__", "node_modules"}  # for storages


@dataclass(frozen=True, kw_only=True)
class Upload:
    """The files that Ray would send.

    Attributes:
        size: bytes in all, before compression.
        entries: bytes of each file and folder at the top, largest first.
    """

    size: int
    entries: dict[str, int]


def exclusions(folder: Path, storage: Path, more: Sequence[str] = ()) -> list[str]:
    """Return the patterns of what is not uploaded: `EXCLUDES`, every storage of campaigns, and `more`.

    Args:
        folder: the working directory that is uploaded.
        storage: the job's storage, which may lie in it.
        more: further patterns, in the syntax of .gitignore.
    """
    return [*EXCLUDES, *(f"/{_literal(path)}/" for path in _storages(folder, storage)), *more]


def _literal(path: Path) -> str:
    """Return a path as a pattern of .gitignore that matches it alone."""
    return re.sub(r"([\\*?\[\]!# ])", r"\\\1", path.as_posix())


def _storages(folder: Path, storage: Path) -> list[Path]:
    """Return the storages below a folder, relative to it, with the job's; if it is one itself, its campaigns."""
    root = folder.resolve()
    campaigns = [path for path in _folders(root) if (path / "campaign.json").is_file() and path != root]
    storages = {path if path.parent == root else path.parent for path in campaigns}
    storages |= {storage.resolve(), Path(os.path.abspath(storage))}  # as it is, and as a link in the folder
    return sorted(path.relative_to(root) for path in storages if root in path.parents)


def _folders(root: Path) -> Iterator[Path]:
    """Yield a folder and those below it, through links as Ray reads them, each once; campaigns are not entered."""
    seen: set[Path] = set()
    for path, below, names in os.walk(root, followlinks=True):
        yield Path(path)
        seen.add(Path(path).resolve())
        entered = [] if "campaign.json" in names else [name for name in below if name not in _NOT_SEARCHED]
        below[:] = [name for name in entered if Path(path, name).resolve() not in seen]


def measure(folder: Path, excludes: Sequence[str]) -> Upload:
    """Add up the files that Ray would upload: without the excluded ones, and those of .gitignore and .rayignore."""
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    root = folder.resolve()
    sizes: dict[str, int] = {}

    def add(path: Path) -> None:
        if path.is_file():
            name = path.relative_to(root).parts[0]
            sizes[name] = sizes.get(name, 0) + path.stat().st_size

    _dir_travel(root, [_get_excludes(root, list(excludes))], add, include_gitignore=True)
    largest = sorted(sizes.items(), key=lambda item: -item[1])
    return Upload(size=sum(sizes.values()), entries=dict(largest))


def require_small(folder: Path, upload: Upload) -> None:
    """Refuse an upload that the cluster would not take.

    Raises:
        UserError: with the largest entries and the remedy.
    """
    if upload.size <= MOST_BYTES:
        return
    largest = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in list(upload.entries.items())[:_NAMED])
    raise UserError(
        f"{folder.resolve()} would upload {upload.size / 2**20:.0f} MiB, and Ray takes {MOST_BYTES / 2**20:.0f} "
        f"({largest}): move what the job does not need elsewhere, or name it in .rayignore"
    )
