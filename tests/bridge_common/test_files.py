"""Files are replaced atomically, also when their writer is killed."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from bridge_common.files import append_jsonl, read_json, read_jsonl, read_log, write_json, write_jsonl, write_text


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
    assert read_log(path) == [{"n": 1}, {"n": 2}]
    assert read_log(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("stump", ['{"kind":', '{"kind": "metrics", "step": 1}', "\x00\x00", '{"kind": "ä'])
def test_a_row_after_one_that_a_full_disk_cut_off_begins_a_line(tmp_path: Path, stump: str) -> None:
    path = tmp_path / "rows.jsonl"
    append_jsonl(path, {"n": 1})
    with path.open("ab") as file:
        file.write(stump.encode()[:-1] if stump.endswith("ä") else stump.encode())
    append_jsonl(path, {"n": 2})
    append_jsonl(path, {"n": 3})
    whole = [{"kind": "metrics", "step": 1}] if stump.endswith("}") else []
    assert read_log(path) == [{"n": 1}, *whole, {"n": 2}, {"n": 3}]


def test_an_append_that_does_not_fit_fails_and_the_next_one_is_read(tmp_path: Path) -> None:
    code = (
        "import os, resource, sys; from pathlib import Path; from bridge_common.files import append_jsonl\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "path = Path(sys.argv[1])\n"
        "try:\n    append_jsonl(path, {'text': 'x' * 2000})\n"
        "except OSError as error:\n    print(error.errno, path.stat().st_size)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "append_jsonl(path, {'n': 2})\n"
    )
    path = tmp_path / "rows.jsonl"
    append_jsonl(path, {"n": 1})
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{errno.EFBIG} 1000\n", "the part that fitted is there, and the error is not lost"
    assert read_log(path) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b'{"a": "\xff"}', b"[" * 100_000])
def test_a_damaged_file_is_named_with_a_remedy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "value.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{path} is damaged \(.+\): resume$"):
        read_json(path, "resume")
    if content:
        path.write_bytes(b'{"a": 0}\n' + content + b"\n")
        with pytest.raises(UserError, match=rf"^{path}:2 is damaged \(.+\): restore it"):
            read_jsonl(path)
    path.write_bytes(b'{"a": 0}\n{"a": 1}')
    with pytest.raises(UserError, match="its last line is incomplete"):
        read_jsonl(path)
