"""Keep the memory of freed tensors in a worker that computes on a CPU.

By default the C library gives large freed blocks back to the system, and the next tensor of the same size gets fresh
pages, each of which costs a fault and is cleared: about 8,000 of them in a step of the embedded pair.
"""

import ctypes
import os

TRIM, MMAP = -1, -3  # parameters of mallopt(3)
LARGEST_ON_HEAP = 32 * 1024**2
"""Bytes from which a block is mapped on its own and unmapped when it is freed; glibc takes no more than this."""
KEPT = 1024**3
"""Bytes of free memory at the end of the heap that stay with the process."""
USERS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Have the C library reuse freed memory in this process, and return whether it took the settings.

    Settings that the user has made in the environment are left alone. What is computed does not change.
    """
    if any(name in os.environ for name in USERS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's; other C libraries have none
    return mallopt is not None and bool(mallopt(MMAP, LARGEST_ON_HEAP)) and bool(mallopt(TRIM, KEPT))
