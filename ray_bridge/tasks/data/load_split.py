"""Load a split with the library `datasets`; cells of CSV files stay the text that is written there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_COLUMNS = 1_000  # of a CSV file that stay text


def load_split(path: str, config: str | None, split: str, revision: str | None = None) -> Any:
    """Load a split of a folder or of a data set on the hub.

    Without a type for each column pandas would read 007 as 7, 1e5 as 100000.0, and NA or None as a missing value.

    Raises:
        OSError, ValueError, DatasetGenerationError: what `datasets` raises.
    """
    from datasets import load_dataset, load_dataset_builder
    from datasets.packaged_modules.csv.csv import Csv

    options: dict[str, Any] = {}
    if isinstance(load_dataset_builder(path, config, revision=revision), Csv):
        options = {"converters": dict.fromkeys(range(_COLUMNS), str), "keep_default_na": False}
    return load_dataset(path, config, split=split, revision=revision, **options)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep progress bars of `datasets` and of the hub's client off stderr, unless the environment asks for them."""
    from datasets import utils as of_datasets
    from huggingface_hub import constants
    from huggingface_hub import utils as of_hub

    libraries: list[Any] = [of_datasets, of_hub]
    asked = constants.HF_HUB_DISABLE_PROGRESS_BARS is False  # HF_HUB_DISABLE_PROGRESS_BARS=0
    shown = [] if asked else [bars for bars in libraries if not bars.are_progress_bars_disabled()]
    for bars in shown:
        bars.disable_progress_bars()
    try:
        yield
    finally:
        for bars in shown:
            bars.enable_progress_bars()


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """Keep progress bars and log lines of `datasets` off stderr; its errors are raised all the same."""
    from datasets.utils.logging import CRITICAL, get_verbosity, set_verbosity

    verbosity = get_verbosity()
    set_verbosity(CRITICAL)
    try:
        with no_progress_bars():
            yield
    finally:
        set_verbosity(verbosity)
