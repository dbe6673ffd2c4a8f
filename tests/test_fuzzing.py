"""What reads foreign bytes takes what fuzzing begins with and what it found; with atheris it is fuzzed for seconds."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fuzz import TARGETS, main, seeds

ROOT = Path(__file__).parents[1]
FOUND: list[tuple[str, bytes]] = [
    ("jsonl", b'{"a":"}\n{"}\n'),
]
"""Inputs that once failed; what has a name is tested beside it, as in `tune_spaces/records/test_plan_file.py`."""


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_takes_what_its_fuzzing_begins_with_and_the_same_cut_off(target: str) -> None:
    for content in seeds(target):
        for part in (content, content[: len(content) // 2], b"\xff" + content, b""):
            TARGETS[target](part)


@pytest.mark.parametrize(("target", "content"), FOUND, ids=[f"{name}-{content[:12]!r}" for name, content in FOUND])
def test_a_target_takes_what_was_found(target: str, content: bytes) -> None:
    TARGETS[target](content)


def test_an_unknown_target_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nobody"])
    assert "unknown target nobody: there are settings, jsonl" in capsys.readouterr().err


@pytest.mark.slow
def test_some_seconds_of_fuzzing_find_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("no atheris: `make fuzz` installs it")
    seconds = os.environ.get("FUZZ_SECONDS", "12")
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.fuzz", "--seconds", seconds, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    assert all(any((tmp_path / target).iterdir()) for target in TARGETS)
