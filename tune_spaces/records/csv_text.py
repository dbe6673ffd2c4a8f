"""Tables as CSV that a spreadsheet shows and does not run.

Programs such as Excel take a cell that begins with `=`, `+`, `-`, `@`, a tab or a line break for a formula, whoever
wrote its text: a model, a data set, a failed job. OWASP's remedy ("CSV Injection") is an apostrophe before it.
"""

import csv
import re
from typing import Any

import pandas as pd

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV with a header and without its index.

    A text that a spreadsheet could run gets an apostrophe; `without_apostrophe` takes it off again. Numbers stay as
    they are, and so do texts that are numbers, such as `-5`.
    """
    shown = table.rename(columns=_safe)
    for place, dtype in enumerate(shown.dtypes):
        if not (pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)):
            shown.isetitem(place, [_safe(value) for value in shown.iloc[:, place]])
    # Python quotes a line feed by itself, but not a carriage return, after which a reader begins a new row.
    returns = any("\r" in str(value) for value in (*shown.columns, *shown.to_numpy(object).ravel()))
    return shown.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL)


def without_apostrophe(value: Any) -> Any:
    """Return a cell as it was before `csv_text` wrote it: `table.map(without_apostrophe)` after `pandas.read_csv`."""
    return value[1:] if isinstance(value, str) and value.startswith("'") and _FORMULA.match(value) else value


def _safe(value: Any) -> Any:
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"
