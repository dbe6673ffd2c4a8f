"""Say in one line why a folder of parquet, CSV or arrow files cannot be read, and what to do."""

from collections.abc import Iterable
from pathlib import Path

from bridge_common.errors import UserError

_HINTS = {  # by what the reason holds, which comes from pandas, pyarrow or `datasets`
    "codec can't decode": "save it as UTF-8, as with iconv -f UTF-16 -t UTF-8 or -f LATIN1",
    "Expected": "quote cells that hold commas",
    "EOF inside string": "close the quotation mark",
    "Parquet": "the file is not whole: write or copy it again",
}
_NO_ROWS = ("BatchSize must be greater than 0", "corresponds to no data", "No columns to parse")
_SHOWN = 300  # characters of a reason


def unreadable(folder: Path, files: Iterable[Path], error: Exception, otherwise: str) -> UserError:
    """Return the error of a folder that `datasets` cannot read, with the faulty file, the reason and a remedy.

    Args:
        folder: the folder.
        files: its files, each of which is read alone.
        error: what `datasets` raised.
        otherwise: the remedy if no better one is known.
    """
    from datasets.table import CastError

    file, cause = _faulty_file(files) or (folder, error.__cause__ or error)
    if isinstance(cause, CastError):
        columns = sorted(set(cause.table_column_names) ^ set(cause.requested_column_names))
        if any(name.startswith("__index_level_") for name in columns):
            return longer_rows(folder)
        return UserError(
            f"{folder}: its files differ in their columns ({', '.join(columns)}): give all the same columns, "
            "or remove the files that are not meant"
        )
    reason = " ".join(str(cause).split()) or type(cause).__name__
    if any(words in reason for words in _NO_ROWS):
        return UserError(f"{file} holds no rows; add some, or remove the file")
    hint = next((hint for words, hint in _HINTS.items() if words in reason), otherwise)
    return UserError(f"cannot read {file} as a data set ({reason[:_SHOWN]}): {hint}")


def longer_rows(place: object) -> UserError:
    """Return the error of a CSV file whose rows pandas would shift, the first cell being taken for a row's name."""
    return UserError(f"{place}: rows of a CSV file have more cells than its header: quote cells that hold commas")


def _faulty_file(files: Iterable[Path]) -> tuple[Path, BaseException] | None:
    """Return the first file that cannot be read, with the error; None if each of them can."""
    from datasets import load_dataset

    for file in files:
        try:
            load_dataset(file.suffix[1:], data_files=str(file))
        except Exception as error:  # of any kind: the folder could not be read either
            return file, error.__cause__ or error
    return None
