"""`import ray_bridge` is fast and gives all public names."""

import subprocess
import sys
from pathlib import Path

import ray_bridge

ROOT = Path(__file__).resolve().parents[2]
IMPORT = """
import sys, time
begin = time.perf_counter()
import ray_bridge
seconds = time.perf_counter() - begin
heavy = [name for name in ("torch", "transformers", "ray", "pydantic", "numpy") if name in sys.modules]
assert not heavy, heavy
print(seconds)
"""


def test_the_import_takes_under_three_tenths_of_a_second() -> None:
    command = [sys.executable, "-c", IMPORT]
    runs = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) < 0.3


def test_every_public_name_is_there_and_listed() -> None:
    for name in ray_bridge.__all__:
        assert getattr(ray_bridge, name).__doc__, name
    assert set(ray_bridge.__all__) <= set(dir(ray_bridge))
