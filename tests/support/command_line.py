"""The command line in this process and as a process of its own."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def call(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `python -m cluster` in the checkout, without GPUs and without a Ray unless the environment names one."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-m", "cluster", *arguments],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=ROOT,
        env={**kept, "CUDA_VISIBLE_DEVICES": "", **environment},
        check=False,
    )


def call_here(*arguments: str, folder: Path = ROOT, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the same in this process, which need not import everything anew, in a folder."""
    from cluster.cli.app import main

    command, out, err = ["ablate", *arguments], io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.delenv("RAY_ADDRESS", raising=False)
        for name, value in {"CUDA_VISIBLE_DEVICES": "", **environment}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", command)
        patch.setattr(sys, "path", list(sys.path))
        patch.chdir(folder)
        code = main()
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def is_one_error_line(done: "subprocess.CompletedProcess[str]") -> bool:
    """Whether a call was refused as it should be: exit code 2, one line, no traceback."""
    lines = done.stderr.strip().splitlines()
    return done.returncode == 2 and len(lines) == 1 and lines[0].startswith("error: ")
