"""Rows of data sets on the Hugging Face hub, or of what this machine's cache has of them."""

from collections.abc import Iterator

from bridge_common.errors import UserError
from bridge_common.hub_connection import cache_unless_hub_answers
from ray_bridge.tasks.data.folder import dataset_rows
from ray_bridge.tasks.data.hub import ALL, HubData, cached_snapshot, chosen_configs, numbered_rows
from ray_bridge.tasks.data.load_split import load_split, no_progress_bars
from ray_bridge.tasks.data.rows import DataRow


def hub_rows(data: HubData, split: str, revision: str | None) -> Iterator[DataRow]:
    """Read the rows of a split, configuration by configuration; without the hub, from this machine's cache of it.

    Raises:
        UserError: if the data set cannot be loaded.
    """
    from datasets import get_dataset_config_names

    name = data.split_names.get(split, split)
    try:
        with cache_unless_hub_answers(), no_progress_bars():
            there = get_dataset_config_names(data.name, revision=revision) if data.config == ALL else ()
            configs = chosen_configs(data.config, there)
            parts = [(config, load_split(data.name, config, name, revision)) for config in configs]
    except (OSError, ValueError) as error:
        if (snapshot := cached_snapshot(data.name, revision)) is not None:
            yield from dataset_rows(snapshot, split, data)
            return
        raise UserError(f"cannot load {data.name} from the hub ({error}); give its files with --data DIR") from error
    for config, rows in parts:
        yield from numbered_rows(rows, config, f"{data.name}, {f'{config}, ' if config else ''}split {name}")
