"""A worker on a CPU reuses the memory of freed tensors, unless the user has set the C library's allocator."""

import os
import subprocess
import sys

import pytest

from ray_bridge.training.host_memory import USERS

# 20 blocks of 8 MiB, one after another: each of their 2,048 pages is a fault if the block before was given back.
FAULTS = """
import ctypes, resource, sys
from ray_bridge.training.host_memory import keep_freed_memory
taken = keep_freed_memory() if sys.argv[1] == "keep" else None
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def fill(size):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
fill(8 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    fill(8 << 20)
print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def taken_and_faults(asked: str, **variables: str) -> tuple[str, int]:
    environment = {name: value for name, value in os.environ.items() if name not in USERS} | variables
    command = [sys.executable, "-c", FAULTS, asked]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    taken, faults = done.stdout.split()
    return taken, int(faults)


needs_glibc = pytest.mark.skipif("glibc" not in str(os.confstr("CS_GNU_LIBC_VERSION")), reason="sets glibc's allocator")


@needs_glibc
def test_freed_blocks_are_reused_without_faults() -> None:
    as_it_is, kept = taken_and_faults("leave"), taken_and_faults("keep")
    assert kept[0] == "True"
    assert kept[1] < 1000 < as_it_is[1]


@needs_glibc
@pytest.mark.parametrize("name", USERS)
def test_what_the_user_has_set_stays(name: str) -> None:
    value = "glibc.malloc.trim_threshold=131072" if name == "GLIBC_TUNABLES" else "131072"
    assert taken_and_faults("keep", **{name: value})[0] == "False"
