"""A phase checks what it needs in seconds, before Ray starts."""

import time
from pathlib import Path

import pytest

from tests.support.command_line import call, is_one_error_line

SECONDS = 30  # the limit of the checks, the imports before them, and a busy machine


@pytest.mark.parametrize(
    ("arguments", "environment", "line"),
    [
        (
            ["--target", "no/model"],
            {"HF_HUB_OFFLINE": "1"},
            "preflight: model: no/model: not on this node, and the hub does not answer (HF_HUB_OFFLINE is set) (name a",
        ),
        (["--storage", "/proc/runs"], {}, "/proc/runs"),
        ([], {"RAY_ADDRESS": "127.0.0.1:1"}, "no Ray at 127.0.0.1:1"),
    ],
)
def test_what_is_missing_is_one_line_before_ray_starts(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], line: str
) -> None:
    start = time.monotonic()
    done = call("phase1", "--storage", str(tmp_path), *arguments, HF_HOME=str(tmp_path / "hub"), **environment)
    assert time.monotonic() - start < SECONDS
    assert is_one_error_line(done), done.stderr
    assert line in done.stderr
    assert not list(tmp_path.glob("*/trials")), "nothing has run"
