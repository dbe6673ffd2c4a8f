"""Run the files of tests that take least first, so that a mutant that they notice costs no more than they do.

A plugin of pytest for `tests.support.mutants`, which runs in mutmut's copy of the checkout.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

STATS = Path("mutmut-stats.json")
"""Written by mutmut before the first mutant: how long each test took."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by the time of their file; tests of one file keep their order."""
    if not STATS.exists():
        return
    seconds: Counter[str] = Counter()
    for name, duration in json.loads(STATS.read_text())["duration_by_test"].items():
        seconds[name.split("::")[0]] += duration
    items.sort(key=lambda item: (seconds[item.nodeid.split("::")[0]], item.nodeid.split("::")[0]))
