"""Move the logs of earlier runs into a dated folder with a manifest of every file, without losing any.

A plan is written before the first file moves, and every file is either still in its old place or whole in its new
one. So a call that was killed is completed by the next call, which finds the plan.
"""

import errno
import os
import shutil
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from bridge_common.files import append_jsonl, read_log, read_object, sha256, write_json, write_jsonl
from bridge_common.trial_files import CAMPAIGN
from bridge_common.user_files import special_kind
from tune_spaces.records.campaign_folder import CampaignFolder

PLAN, JOURNAL, PART, MANIFEST = ".plan.json", ".journal.jsonl", ".part", "manifest.json"


def archive(logs: Iterable[Path], into: Path, *, when: datetime | None = None) -> Path:
    """Move files and folders into `into/DATE-TIME` and write its `manifest.json`.

    An earlier call that was cut short is completed first, whatever `logs` names; so the same call may simply be
    repeated. Within one file system files are renamed; across two they are copied, compared and only then removed.

    Args:
        logs: files or folders. Names that are equal get a number; links move as links.
        into: the archive's folder, made if needed.
        when: the date of the folder, now by default.

    Returns:
        The dated folder.

    Raises:
        UserError: nothing to move, a log that does not exist, is a pipe, a socket or a device, or holds the working
            folder or a campaign that runs, or an archive inside what it should archive. Nothing has been moved then.
            What a folder holds of these stays: see `not_moved`.
    """
    from filelock import Timeout

    from bridge_common.locks import file_lock

    into = Path(os.path.abspath(into))
    sources = check(logs, into)
    unfinished = _unfinished(into)
    into.mkdir(parents=True, exist_ok=True)
    try:
        with file_lock(into / ".lock", timeout=10):
            folder = into
            for plan in unfinished:
                folder = _move_planned(plan.parent)
            left = [
                source
                for source in sources
                if os.path.lexists(source) and (not unfinished or _holds_anything_new(source, folder))
            ]
            if left:
                folder = _move_planned(_plan(left, into, when or datetime.now()))
            return folder
    except Timeout as error:
        raise UserError(f"another archive is being written into {into}: wait for it to end") from error


def check(logs: Iterable[Path], into: Path) -> list[Path]:
    """Return what is to be moved, without what lies inside another of it.

    Args:
        logs: files or folders.
        into: the archive's folder.

    Raises:
        UserError: as `archive`.
    """
    into = Path(os.path.abspath(into))
    sources = _outermost(Path(os.path.abspath(log)) for log in logs)
    planned = [Path(old) for plan in _unfinished(into) for old in _planned(plan)]
    for source in sources:
        if not os.path.lexists(source) and not any(source == p or source in p.parents for p in planned):
            raise UserError(f"cannot archive {source}: it does not exist")
        if source == into or source in into.parents or into in source.parents:
            raise UserError(f"cannot archive {source}: it and the archive {into} lie inside each other")
        if source == Path.cwd() or source in Path.cwd().parents:
            raise UserError(
                f"cannot archive {source}: it is the folder in which you work, or holds it; name what is in it"
            )
        if running := _running_in(source):
            raise UserError(f"cannot archive {source}: campaign {running} in it runs; `stop` it, or wait for its end")
        if (kind := _unmovable(source)) is not None:
            raise UserError(f"cannot archive {source}: it is {kind}; name files or folders")
    if not sources and not _unfinished(into):
        raise UserError("nothing to archive: name the logs to move")
    return sources


def _running_in(source: Path) -> str | None:
    """Return the name of a campaign in a folder that a driver runs, which would write on; None if there is none."""
    if source.is_symlink():
        return None
    folders = (CampaignFolder(file.parent) for file in source.rglob(CAMPAIGN))
    return next((folder.name for folder in folders if folder.is_driven()), None)


def _unfinished(into: Path) -> list[Path]:
    return sorted(into.glob(f"*/{PLAN}"))


def not_moved(folder: Path) -> list[str]:
    """Return what an archive left in its place, each path with what it is: neither file, folder nor link."""
    paths = [Path(path) for path in read_object(folder / MANIFEST)["left"]]
    return [f"{path} ({kind})" for path in paths if (kind := _unmovable(path)) is not None]


def _unmovable(path: Path) -> str | None:
    """Return what a path is if that cannot be moved as a file, a folder or a link; None otherwise."""
    kind = None if path.is_symlink() else special_kind(path)
    return None if kind == "a folder" else kind


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Return the paths, each once, without those inside another of them."""
    unique = list(dict.fromkeys(paths))
    return [path for path in unique if not any(other in path.parents for other in unique)]


def _planned(plan: Path) -> list[str]:
    return [old for old, _ in read_object(plan)["moves"]]


def _holds_anything_new(source: Path, folder: Path) -> bool:
    """Return False for what the completed plan could not move, which would otherwise be tried for ever."""
    left = set(read_object(folder / MANIFEST)["left"]) if (folder / MANIFEST).is_file() else set()
    if source.is_symlink() or not source.is_dir():
        return str(source) not in left
    return any(str(path) not in left for path in source.rglob("*") if path.is_symlink() or not path.is_dir())


def _plan(sources: list[Path], into: Path, when: datetime) -> Path:
    """Give every file its new name and write that down before anything moves."""
    stamp = when.strftime("%Y-%m-%d-%H%M%S")
    folder = _free(into / stamp, taken=set())
    moves: list[tuple[str, str]] = []
    folders: list[str] = []
    left: list[str] = []
    taken: set[Path] = {folder / name for name in (PLAN, JOURNAL, PART, MANIFEST)}
    for source in sources:
        new = _free(folder / source.name, taken)
        taken.add(new)
        for path in [source, *sorted(source.rglob("*"))] if source.is_dir() and not source.is_symlink() else [source]:
            name = str((new / path.relative_to(source)).relative_to(folder))
            if path.is_symlink() or path.is_file():
                moves.append((str(path), name))
            elif path.is_dir():
                folders.append(name)
            else:
                left.append(str(path))  # a pipe, a socket or a device
    folder.mkdir()
    roots = [str(source) for source in sources]
    plan = {"created": when.isoformat(), "roots": roots, "moves": moves, "folders": folders, "left": left}
    write_json(folder / PLAN, plan)
    return folder


def _free(path: Path, taken: set[Path]) -> Path:
    """Return `path`, or the first of path-2, path-3, ... that does not exist and is not taken."""
    candidate, number = path, 2
    while candidate in taken or os.path.lexists(candidate):
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return candidate


def _move_planned(folder: Path) -> Path:
    """Move the files of a plan that have not been moved, then replace plan and journal by the manifest."""
    plan = read_object(folder / PLAN)
    journal = folder / JOURNAL
    rows = {row["name"]: row for row in read_log(journal)}
    write_jsonl(journal, rows.values())  # without the half line that a kill leaves
    for name in plan["folders"]:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for old, name in plan["moves"]:
        for row in _move(Path(old), folder, name, rows.get(name)):
            if row["name"] not in rows:
                append_jsonl(journal, row)
            rows[row["name"]] = row
    for root in plan["roots"]:
        _remove_empty(Path(root))
    files = [row for row in rows.values() if "sha256" in row]
    write_json(
        folder / MANIFEST,
        {
            "created": plan["created"],
            "bytes": sum(row["bytes"] for row in files),
            "files": files,
            "links": [row for row in rows.values() if "target" in row],
            "lost": [row["moved_from"] for row in rows.values() if "lost" in row],
            "left": plan["left"],
        },
    )
    (folder / PLAN).unlink()
    journal.unlink()
    return folder


def _move(old: Path, folder: Path, name: str, row: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Move one file to its place, from any state that a killed call left; return its rows of the manifest."""
    new = folder / name
    here, there = os.path.lexists(old), os.path.lexists(new)
    if there and not here:
        return [row or _describe(new, name, old)]
    if not here:
        return [{"name": name, "moved_from": str(old), "lost": "in neither place"}]
    if not there:
        return [_bring(old, new, name, folder)]
    arrived = _describe(new, name, old)
    if _same(_describe(old, name, old), arrived):
        old.unlink()
        return [arrived]
    other = _free(new, taken=set())  # the run wrote on after its copy was made: both versions stay
    return [arrived, _bring(old, other, str(other.relative_to(folder)), folder)]


def _bring(old: Path, new: Path, name: str, folder: Path) -> dict[str, Any]:
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(old, new)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return _copy(old, new, name, folder)
    return _describe(new, name, old)


def _copy(old: Path, new: Path, name: str, folder: Path) -> dict[str, Any]:
    """Copy across file systems; the source goes only after the copy has been read back and compared."""
    part = folder / PART
    part.unlink(missing_ok=True)
    shutil.copy2(old, part, follow_symlinks=False)
    if not part.is_symlink():
        with part.open("rb") as file:
            os.fsync(file.fileno())
    copied = _describe(part, name, old)
    if not _same(copied, _describe(old, name, old)):
        part.unlink()
        raise UserError(f"cannot archive {old}: it is still being written; stop its run first, then archive again")
    os.rename(part, new)
    old.unlink()
    return copied


def _describe(path: Path, name: str, old: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "moved_from": str(old)}
    if path.is_symlink():
        return {**row, "target": str(path.readlink())}
    return {**row, "bytes": path.stat().st_size, "sha256": sha256(path)}


def _same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return all(one.get(key) == two.get(key) for key in ("bytes", "sha256", "target"))


def _remove_empty(root: Path) -> None:
    """Remove the folders that have become empty; one that something was added to stays."""
    if root.is_symlink() or not root.is_dir():
        return
    for folder in sorted((path for path in root.rglob("*") if path.is_dir() and not path.is_symlink()), reverse=True):
        _remove_if_empty(folder)
    _remove_if_empty(root)


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
