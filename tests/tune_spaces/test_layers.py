"""What each room of the package may import, found out by importing its modules in fresh interpreters."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("ray", "torch", "mlflow", "transformers")
IMPORT_ALL = """
import importlib, json, sys
for modules in sys.argv[1:]:
    for name in modules.split():
        importlib.import_module(name)
    print(json.dumps(sorted(sys.modules)))
"""


def modules_of(room: str) -> list[str]:
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "tune_spaces" / room).rglob("*.py"))
    ]


def imported_after(*groups: list[str]) -> list[set[str]]:
    """Import groups of modules one after the other; return what is loaded after each."""
    command = [sys.executable, "-c", IMPORT_ALL, *map(" ".join, groups)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return [set(json.loads(line)) for line in done.stdout.splitlines()]


def test_only_ray_tune_reaches_ray() -> None:
    rooms = ("design", "gate", "analysis", "records", "appendix", "card")
    for room, loaded in zip(rooms, imported_after(*map(modules_of, rooms)), strict=True):
        assert not loaded & {*HEAVY, "tune_spaces.ray_tune", "mlflow_utils"}, room


def test_the_package_and_a_campaign_import_no_ray() -> None:
    (loaded,) = imported_after(["tune_spaces", "tune_spaces.campaign"])
    assert not loaded & {*HEAVY, "pandas", "tune_spaces.ray_tune", "mlflow_utils"}
