"""Checks of disk and shared storage: another node must read a checkpoint, and a full disk would end a run late."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.preflight.check import Check, Status


@contextmanager
def token_below(storage: Path) -> Iterator[Path]:
    """Write a file that contains its own name into the storage, for the nodes to read during the block.

    Raises:
        OSError: if the driver itself cannot write there.
    """
    folder = storage / ".preflight"
    folder.mkdir(parents=True, exist_ok=True)
    token = folder / uuid.uuid4().hex
    token.write_text(token.name)
    try:
        yield token
    finally:
        token.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def judge_disk(facts: dict[str, Any], *, min_free_gb: float, node: str) -> Check:
    """Check that there is room for checkpoints in the storage, and for Ray's session and spilled objects."""
    storage, temporary = facts["storage"], facts["temporary"]
    detail = (
        f"{storage['free'] / 1e9:.0f} GB free for the storage, {temporary['free'] / 1e9:.0f} GB for temporary files"
    )
    status: Status = "pass"
    remedy = ""
    if storage["free"] < min_free_gb * 1e9:
        status, remedy = "fail", f"free {min_free_gb:g} GB on the disk of {storage['on']}, or use another --storage"
    elif not storage["writable"]:
        status, remedy = "fail", f"make {storage['on']} writable, or use another --storage"
    elif temporary["free"] < 0.05 * temporary["total"]:
        # Ray stops creating objects on a disk that is more than 95 % full.
        status, remedy = "warn", "free some of the temporary disk, or start Ray with another --temp-dir"
    return Check(name="disk", status=status, detail=detail, remedy=remedy, node=node)


def judge_shared(seen: str, *, storage: Path, node: str) -> Check:
    """Check that the node read the driver's file, and wrote one beside it.

    Args:
        seen: what the node reported: `yes`, `no`, `another content`, `not written`, or an error.
        storage: folder of the campaigns.
        node: the node's address.
    """
    if seen == "yes":
        return Check(name="shared storage", status="pass", detail=f"{storage} is read and written here", node=node)
    detail = {
        "no": f"a file that the driver wrote in {storage} is not seen here",
        "another content": f"{storage} here is not the driver's",
        "not written": f"the driver cannot write in {storage}",
    }.get(seen, f"{storage}: {seen}")
    remedy = "use a --storage that all nodes mount, under the same path, with write permission"
    return Check(name="shared storage", status="fail", detail=detail, remedy=remedy, node=node)
