"""Headers of safetensors files: how many parameters a file holds, and whether all of it is there."""

import json
import math
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from bridge_common.user_files import open_file

LARGEST_HEADER = 100_000_000
"""Bytes of a header that safetensors takes at most."""
AGAIN = "copy or save the checkpoint again"
_POINTER = b"version https://git-lfs"


def parameters_in(path: Path) -> int:
    """Return the number of parameters in a safetensors file, by its header.

    Raises:
        UserError: if the file is no safetensors file, or cut off, as by an interrupted download.
    """
    with open_file(path) as file:
        start = file.read(len(_POINTER))
        size = int.from_bytes(start[:8], "little")
        if start == _POINTER:
            raise UserError(f"{path} is a pointer of Git LFS without the weights: run git lfs pull there")
        if len(start) < 8 or size > LARGEST_HEADER:
            raise UserError(f"{path} is no safetensors file: {AGAIN}")
        file.seek(8)
        header = file.read(size)
    bytes_there = path.stat().st_size
    if len(header) < size:
        raise UserError(f"{path} is cut off ({bytes_there:,} bytes): {AGAIN}")
    try:
        tensors: list[dict[str, Any]] = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
        needed = 8 + size + max((entry["data_offsets"][1] for entry in tensors), default=0)
        count = sum(math.prod(entry["shape"]) for entry in tensors)
    except (ValueError, RecursionError, AttributeError, LookupError, TypeError) as error:
        raise UserError(f"{path} is no safetensors file: {AGAIN}") from error
    if bytes_there < needed:
        raise UserError(f"{path} is cut off ({bytes_there:,} of {needed:,} bytes): {AGAIN}")
    return count
