"""Rows of a data set: from a folder with train.jsonl and test.jsonl, or from the hub."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError

DataRow = Mapping[str, Any]


def check_folder(folder: str | None) -> None:
    """Refuse a data folder that lacks a split, at once and not when it is read.

    Raises:
        UserError: naming the missing file.
    """
    for split in ("train", "test") if folder is not None else ():
        if not (Path(str(folder)) / f"{split}.jsonl").is_file():
            raise UserError(f"no {split}.jsonl in {folder}: --data takes a folder with train.jsonl and test.jsonl")


def load_rows(
    split: str,
    *,
    folder: str | None,
    hub: str,
    config: str | None = None,
    hub_split: str | None = None,
    revision: str | None = None,
    fields: Sequence[str],
) -> tuple[list[DataRow], str]:
    """Rows of one split and where they came from.

    Args:
        split: "train" or "test".
        folder: folder with a JSONL file a split, or None for the hub.
        hub: data set's name on the hub.
        config: its configuration there.
        hub_split: the split's name there, where it differs.
        revision: its revision there.
        fields: fields that every row must have.

    Raises:
        UserError: when the data cannot be read or a row lacks a field.
    """
    rows: Iterable[DataRow]
    if folder is not None:
        place = str(Path(folder) / f"{split}.jsonl")
        with open(place, encoding="utf-8") as file:
            rows = [_parse(line, place, n) for n, line in enumerate(file, 1) if line.strip()]
    else:
        place = hub
        from datasets import load_dataset

        try:
            rows = load_dataset(hub, config, split=hub_split or split, revision=revision)
        except (OSError, ConnectionError, ValueError) as error:
            raise UserError(f"cannot load {hub} from the hub ({error}); give its files with --data DIR") from error
    result = []
    for index, row in enumerate(rows):
        missing = [field for field in fields if field not in row]
        if missing:
            raise UserError(f"{place}, example {index}: no field {' or '.join(missing)}")
        result.append(row)
    return result, place


def _parse(line: str, place: str, number: int) -> DataRow:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{place}, line {number}: not JSON ({error.msg}); one object a line is expected") from error
    if not isinstance(row, dict):
        raise UserError(f"{place}, line {number}: one object a line is expected")
    return row
