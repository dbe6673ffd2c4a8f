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
def quiet_datasets() -> Iterator[None]:
    """Keep the library's progress bars and log lines off stderr; its errors are raised all the same."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from datasets.utils.logging import CRITICAL, get_verbosity, set_verbosity

    verbosity, bars = get_verbosity(), not are_progress_bars_disabled()
    set_verbosity(CRITICAL)
    if bars:
        disable_progress_bars()
    try:
        yield
    finally:
        set_verbosity(verbosity)
        if bars:
            enable_progress_bars()
