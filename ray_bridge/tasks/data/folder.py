"""Rows from a folder: train.jsonl and test.jsonl, or whatever else the library `datasets` reads from a folder."""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from bridge_common.errors import UserError
from ray_bridge.tasks.data.hub import HubData, chosen_configs, numbered_rows
from ray_bridge.tasks.data.rows import DataRow

OTHER_FORMATS = (".parquet", ".csv", ".arrow")
_FORMS = "--data takes a folder with train.jsonl and test.jsonl, with parquet, csv or arrow files, or a hub snapshot"
_OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def check_folder(folder: str | None) -> None:
    """Refuse a folder that cannot hold a task's data, without reading it.

    Raises:
        UserError: if it is no folder, or lacks a split.
    """
    if folder is None:
        return
    place = Path(folder)
    lacking = [split for split in ("train", "test") if not (place / f"{split}.jsonl").is_file()]
    if lacking and (len(lacking) == 1 or not _has_other_format(place)):
        raise UserError(f"no {lacking[0]}.jsonl in {folder}: {_FORMS}")


def folder_rows(folder: str, split: str, data: HubData) -> Iterator[DataRow]:
    """Read the rows of a split.

    Args:
        folder: the data's folder.
        split: "train" or "test".
        data: the data set that it may be a snapshot of: its configurations, and what it calls its splits.

    Raises:
        UserError: in one line with file, line and remedy.
    """
    file = Path(folder) / f"{split}.jsonl"
    if file.is_file():
        return json_lines(file)
    return dataset_rows(Path(folder).resolve(), split, data)


def json_lines(file: Path) -> Iterator[DataRow]:
    """Read the rows of a JSONL file in UTF-8, with or without a byte order mark; lines end in LF, CRLF or CR.

    Raises:
        UserError: if the file is not readable, empty, or in another encoding, or a line is no JSON object.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file} ({error.strerror}): check the path and its permissions") from error
    encoding = next((name for mark, name in _OTHER_ENCODINGS.items() if content.startswith(mark)), None)
    if encoding or b"\x00" in content[:4096]:
        name = encoding or "UTF-16 or binary"
        raise UserError(f"{file}, line 1: the file is {name}; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    content = content.removeprefix(codecs.BOM_UTF8)
    empty = True
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            empty = False
            place = f"line {number}"
            yield DataRow(fields=_json_object(line, f"{file}, {place}"), file=str(file), place=place)
    if empty:
        raise UserError(f"{file} holds no rows; one JSON object a line is expected")


def _json_object(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{place}: not UTF-8 (byte 0x{line[error.start]:02x} at {error.start + 1}); save the file as UTF-8"
        ) from error
    except RecursionError as error:
        raise UserError(f"{place}: not JSON (nested too deeply); one object a line is expected") from error
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(f"{place}: not JSON ({reason}); one object a line is expected") from error
    if not isinstance(row, dict):
        raise UserError(f"{place}: {type(row).__name__} instead of an object; one object a line is expected")
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not of JSON")


def _has_other_format(folder: Path) -> bool:
    return any(path.suffix in OTHER_FORMATS for path in folder.rglob("*"))


def dataset_rows(folder: Path, split: str, data: HubData) -> Iterator[DataRow]:
    """Read the rows of a split from a folder that the library `datasets` reads, such as a snapshot of the hub's.

    Raises:
        UserError: in one line with file, row and remedy.
    """
    from datasets import get_dataset_config_names, get_dataset_split_names, load_dataset, load_dataset_builder
    from datasets.exceptions import DatasetGenerationError

    try:
        there = get_dataset_config_names(str(folder))
        configs = chosen_configs(data.config, there) if len(there) > 1 else there
        if missing := [config for config in configs if config not in there]:
            raise UserError(f"{folder} has no configuration {missing[0]}: there are {', '.join(there)}")
        splits = get_dataset_split_names(str(folder), configs[0])
        name = data.split_names.get(split, split)
        name = name if name in splits else split
        if name not in splits:
            raise UserError(f"{folder} has no split {name}: there are {', '.join(splits)}; name files after splits")
        parts = [
            (config, load_dataset(str(folder), config, split=name), load_dataset_builder(str(folder), config))
            for config in configs
        ]
    except (OSError, ValueError, DatasetGenerationError) as error:
        if isinstance(error, UserError):
            raise
        file, reason = _faulty_file(folder) or (folder, str(error.__cause__ or error))
        line = " ".join(reason.split()) or type(error).__name__
        raise UserError(f"cannot read {file} as a data set ({line[:300]}): {_FORMS}") from error
    if not any(len(rows) for _, rows, _ in parts):
        raise UserError(f"{folder}, split {name} holds no rows")
    for config, rows, builder in parts:
        several = f"{config}, " if len(there) > 1 else ""
        files = (builder.config.data_files or {}).get(name, [])
        place = files[0] if len(files) == 1 else f"{folder}, {several}split {name}"
        yield from numbered_rows(rows, config if several else None, place)


def _faulty_file(folder: Path) -> tuple[Path, str] | None:
    """Return the first file of a folder that cannot be read, with the reason; None if each of them can."""
    from datasets import load_dataset

    for file in sorted(path for path in folder.rglob("*") if path.suffix in OTHER_FORMATS):
        try:
            load_dataset(file.suffix[1:], data_files=str(file))
        except Exception as error:  # whatever it is, the folder could not be read either
            return file, str(error.__cause__ or error)
    return None
