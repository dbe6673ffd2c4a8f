"""Small disks of their own for tests of what happens when one is full. Needs the right to mount."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, mebibytes: int = 8) -> Iterator[Path]:
    """Mount a small disk at a new folder and yield the folder; skip the test if nothing can be mounted."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield the folder of a small disk of the test's own."""
    with small_disk(tmp_path / "disk") as place:
        yield place


def fill(disk: Path, leave: int = 0) -> Path:
    """Write zeros until the disk takes no more, and return their file.

    Args:
        disk: folder of the disk.
        leave: bytes that are left free.
    """
    zeros = disk / "zeros"
    with zeros.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                break
        file.truncate(max(0, file.tell() - leave))
    return zeros
