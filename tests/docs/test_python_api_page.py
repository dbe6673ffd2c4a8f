"""The table of public names on the page about Python is what the packages offer."""

import re
from types import ModuleType

import pytest

import mlflow_utils
import ray_bridge
import tune_spaces
from tests.support.documents import ROOT


def names_on_the_page(package: str) -> list[str]:
    """Return the names in the rows of a package; rows without a package continue the one above."""
    names, current = [], ""
    for line in (ROOT / "docs/python-api.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 2:
            current = cells[0].strip("`") or current
            names += re.findall(r"`(\w+)`", cells[1]) if current == package else []
    return names


@pytest.mark.parametrize("package", [ray_bridge, tune_spaces, mlflow_utils])
def test_the_table_has_every_public_name_once(package: ModuleType) -> None:
    assert sorted(names_on_the_page(package.__name__)) == sorted(package.__all__)
