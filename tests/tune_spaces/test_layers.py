"""What each room of the package may import, found out by importing its modules in a fresh interpreter."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("ray", "torch", "mlflow", "transformers")
IMPORT_ALL = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""


def modules_of(room: str) -> list[str]:
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "tune_spaces" / room).rglob("*.py"))
    ]


def imported_by(*modules: str) -> set[str]:
    command = [sys.executable, "-c", IMPORT_ALL, *modules]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("room", ["design", "gate", "analysis", "records", "appendix", "card"])
def test_only_ray_tune_reaches_ray(room: str) -> None:
    assert not imported_by(*modules_of(room)) & {*HEAVY, "tune_spaces.ray_tune", "mlflow_utils"}


def test_the_package_and_a_campaign_import_no_ray() -> None:
    loaded = imported_by("tune_spaces", "tune_spaces.campaign")
    assert not loaded & {*HEAVY, "pandas", "tune_spaces.ray_tune", "mlflow_utils"}
