"""Files are whole or absent, also when their writer is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge_common.files import append_jsonl, read_json, read_jsonl, write_json, write_jsonl, write_text
from bridge_common.intervals import wilson


def test_round_trips(tmp_path: Path) -> None:
    rows = [{"a": 1, "text": "naïve\n日本"}, {"b": [1.5, None]}]
    write_jsonl(tmp_path / "deep" / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "deep" / "rows.jsonl") == rows
    write_json(tmp_path / "value.json", rows)
    assert read_json(tmp_path / "value.json") == rows


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    write_json(tmp_path / "value.json", {"kept": True})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "value.json", {"bad": float("nan")})
    assert read_json(tmp_path / "value.json") == {"kept": True}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "value.txt"
    write_text(path, "0" * 200_000)
    code = (
        "import sys; from pathlib import Path; from bridge_common.files import write_text\n"
        "i = 0\n"
        "while True:\n    i += 1\n    write_text(Path(sys.argv[1]), str(i % 10) * 200_000)\n"
    )
    for wait in (0.25, 0.3, 0.37):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
        time.sleep(wait)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        text = path.read_text()
        assert len(text) == 200_000
        assert len(set(text)) == 1


def test_a_half_written_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_jsonl(path, {"n": 1})
    append_jsonl(path, {"n": 2})
    path.write_text(path.read_text() + json.dumps({"n": 3})[:4])
    assert read_jsonl(path) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(129, 200, 0.5765, 0.7080), (125, 200, 0.5561, 0.6891), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)],
)
def test_wilson_interval(correct: int, n: int, low: float, high: float) -> None:
    assert wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


def test_nothing_is_known_of_no_trials() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
