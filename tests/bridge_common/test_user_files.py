"""Files that a user names are read to their end, or refused at once."""

import os
import subprocess
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from bridge_common.user_files import lines_of, open_file, read_text


def written(path: Path, command: str) -> bytes:
    """Return what is read of a pipe that a shell's command writes."""
    os.mkfifo(path)
    with subprocess.Popen(["sh", "-c", f'({command}) > "$0"', str(path)]), open_file(path, pipe=True) as file:
        return file.read()


def test_a_pipe_is_read_to_its_end_however_slowly_it_is_written(tmp_path: Path) -> None:
    assert written(tmp_path / "quick", "printf abc") == b"abc"
    assert written(tmp_path / "slow", "sleep 1.5; printf abc; sleep 0.2; printf def") == b"abcdef"
    assert written(tmp_path / "empty", "true") == b""


def test_a_pipe_without_a_name_is_read_through_its_descriptor() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"abc")
    os.close(writer)
    with open_file(Path(f"/dev/fd/{reader}"), pipe=True) as file:
        assert file.read() == b"abc"
    os.close(reader)


def test_a_pipe_that_nobody_writes_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="it is a pipe that nobody writes; start its writer first"):
        open_file(tmp_path / "pipe", pipe=True)
    with pytest.raises(UserError, match="it is a pipe; name a regular file"):
        open_file(tmp_path / "pipe")


@pytest.mark.parametrize("pipe", [True, False])
def test_folders_and_devices_are_refused_unopened(tmp_path: Path, pipe: bool) -> None:
    with pytest.raises(UserError, match="it is a folder; name a regular file"):
        open_file(tmp_path, pipe=pipe)
    with pytest.raises(UserError, match="it is a device; name a regular file"):
        open_file(Path("/dev/zero"), pipe=pipe)
    with pytest.raises(UserError, match=r"No such file or directory\): check the path and its permissions"):
        open_file(tmp_path / "missing", pipe=pipe)


def test_a_text_has_a_largest_size_and_one_encoding(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"\xef\xbb\xbfgr\xc3\xbc\xc3\x9fe")
    assert read_text(file) == "grüße"
    file.write_bytes(b"a\xff")
    with pytest.raises(UserError, match=r"not UTF-8 \(at byte 2\)"):
        read_text(file)
    os.truncate(file, 1 << 40)
    with pytest.raises(UserError, match="it has more than 16 MiB; name another file"):
        read_text(file)
    with open_file(file) as opened, pytest.raises(UserError, match="line 1: longer than 64 MiB"):
        list(lines_of(opened, file))
