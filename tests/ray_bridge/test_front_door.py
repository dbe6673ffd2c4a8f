"""`import ray_bridge` gives all public names, and imports nothing heavy for it."""

import subprocess
import sys
from pathlib import Path

import ray_bridge

ROOT = Path(__file__).resolve().parents[2]


def test_the_import_loads_few_modules() -> None:
    code = "import sys; before = set(sys.modules); import ray_bridge; print(len(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert int(done.stdout) < 20


def test_every_public_name_is_there_and_listed() -> None:
    for name in ray_bridge.__all__:
        assert getattr(ray_bridge, name).__doc__, name
    assert set(ray_bridge.__all__) <= set(dir(ray_bridge))
