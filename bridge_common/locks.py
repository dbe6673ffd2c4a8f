"""Locks between processes, also on file systems that have none of their own."""

import errno
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

# What Linux answers without locks: FUSE and old kernels, NFS without its lock service, other network file systems.
_WITHOUT = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


def file_lock(path: Path, timeout: float = -1) -> "BaseFileLock":
    """Return a lock on a file, whose folder exists; it ends with its process.

    Without locks of the file system, the file is there while it is locked, with the process and host that hold it. One
    of a process of this host that has died is void; one of another host has to be removed by hand.

    Args:
        path: the lock's file.
        timeout: seconds to wait for it; -1 for as long as it takes.
    """
    from filelock import FileLock, SoftFileLock

    return (FileLock if _has_locks(path.parent) else SoftFileLock)(path, timeout=timeout)


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock on a file, which may lie in a folder that takes no other file.

    Args:
        path: the lock's file; without it nobody holds the lock.
    """
    from filelock import Timeout

    if not path.exists():
        return False
    if not _has_locks(path.parent):
        try:
            with file_lock(path, timeout=0):
                return False
        except Timeout:
            return True
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # which waits for no writer if it is a pipe
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _has_locks(folder: Path) -> bool:
    """Return whether the folder's file system has locks; tried on the folder, where it changes nothing."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _WITHOUT
    finally:
        os.close(handle)
    return True
