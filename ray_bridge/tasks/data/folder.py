"""Rows from a folder: train.jsonl and test.jsonl, or whatever else the library `datasets` reads from a folder."""

from collections.abc import Iterator
from pathlib import Path

from bridge_common.errors import UserError
from ray_bridge.tasks.data.hub import HubData, chosen_configs, numbered_rows
from ray_bridge.tasks.data.json_rows import json_lines
from ray_bridge.tasks.data.load_split import load_split, quiet_datasets
from ray_bridge.tasks.data.rows import DataRow
from ray_bridge.tasks.data.unreadable import longer_rows, unreadable

OTHER_FORMATS = (".parquet", ".csv", ".arrow")
_NAMED = 5  # files that a message names
_FORMS = "--data takes a folder with train.jsonl and test.jsonl, with parquet, csv or arrow files, or a hub snapshot"


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


def unread_files(folder: str | None) -> str | None:
    """Return one line on files of a folder that are not read because its JSONL files are; None if there are none."""
    if folder is None or not (Path(folder) / "train.jsonl").is_file():
        return None
    others = sorted(str(path.relative_to(folder)) for path in _in_other_formats(Path(folder)))
    if not others:
        return None
    named = ", ".join(others[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
    return f"{folder}: train.jsonl and test.jsonl are read, {named} not; remove what is not meant"


def _has_other_format(folder: Path) -> bool:
    return any(True for _ in _in_other_formats(folder))


def _in_other_formats(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix in OTHER_FORMATS)


def dataset_rows(folder: Path, split: str, data: HubData) -> Iterator[DataRow]:
    """Read the rows of a split from a folder that the library `datasets` reads, such as a snapshot of the hub's.

    Raises:
        UserError: in one line with file, row and remedy.
    """
    from datasets import get_dataset_config_names, get_dataset_split_names, load_dataset_builder
    from datasets.exceptions import DatasetGenerationError

    with quiet_datasets():
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
                (config, load_split(str(folder), config, name), load_dataset_builder(str(folder), config))
                for config in configs
            ]
        except (OSError, ValueError, DatasetGenerationError) as error:
            if isinstance(error, UserError):
                raise
            raise unreadable(folder, sorted(_in_other_formats(folder)), error, _FORMS) from error
    if not any(len(rows) for _, rows, _ in parts):
        raise UserError(f"{folder}, split {name} holds no rows")
    for config, rows, builder in parts:
        several = f"{config}, " if len(there) > 1 else ""
        files = (builder.config.data_files or {}).get(name, [])
        place = files[0] if len(files) == 1 else f"{folder}, {several}split {name}"
        if "__index_level_0__" in rows.column_names and builder.info.builder_name == "csv":
            raise longer_rows(place)
        yield from numbered_rows(rows, config if several else None, place)
