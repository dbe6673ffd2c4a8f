"""The command line as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def call(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `python -m cluster` in the checkout, without GPUs and without a Ray unless the environment names one."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-m", "cluster", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**kept, "CUDA_VISIBLE_DEVICES": "", **environment},
        check=False,
    )


def is_one_error_line(done: "subprocess.CompletedProcess[str]") -> bool:
    """Whether a call was refused as it should be: exit code 2, one line, no traceback."""
    lines = done.stderr.strip().splitlines()
    return done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: ")
