"""Headers of safetensors files: damaged ones are one line, and are not read into memory whatever they say."""

import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bridge_common.errors import UserError
from ray_bridge.footprint.weight_files import parameters_in


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4)}, tmp_path / "w.safetensors", metadata={"format": "pt"})
    return tmp_path / "w.safetensors"


def test_parameters_are_counted(file: Path) -> None:
    assert parameters_in(file) == 10


def test_a_file_that_is_cut_off_anywhere_is_one_line(file: Path) -> None:
    for size in range(file.stat().st_size - 1, -1, -1):
        os.truncate(file, size)
        with pytest.raises(UserError, match="cut off" if size >= 20 else "cut off|no safetensors file"):
            parameters_in(file)


@pytest.mark.parametrize("header", [b"[]", b"{}}", b'{"a": 1}', b'{"a": {"shape": [1]}}', b"[" * 100_000, b"\xff"])
def test_another_header_is_one_line(file: Path, header: bytes) -> None:
    file.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(UserError, match="is no safetensors file: copy or save the checkpoint again"):
        parameters_in(file)


def test_a_pointer_of_git_lfs_is_named(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n")
    with pytest.raises(UserError, match="is a pointer of Git LFS without the weights: run git lfs pull there"):
        parameters_in(file)
