"""Files are replaced atomically, also when their writer is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge_common.files import append_jsonl, read_json, read_jsonl, write_json, write_jsonl, write_text


def test_round_trips(tmp_path: Path) -> None:
    rows = [{"a": 1, "text": "naïve\n日本"}, {"b": [1.5, None]}]
    write_jsonl(tmp_path / "deep" / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "deep" / "rows.jsonl") == rows
    write_json(tmp_path / "value.json", rows)
    assert read_json(tmp_path / "value.json") == rows


def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    write_json(tmp_path / "value.json", {"kept": True})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "value.json", {"bad": float("nan")})
    assert read_json(tmp_path / "value.json") == {"kept": True}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_a_writer_killed_at_any_time_leaves_a_complete_file(tmp_path: Path) -> None:
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


def test_an_incomplete_last_line_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_jsonl(path, {"n": 1})
    append_jsonl(path, {"n": 2})
    path.write_text(path.read_text() + json.dumps({"n": 3})[:4])
    assert read_jsonl(path) == [{"n": 1}, {"n": 2}]
