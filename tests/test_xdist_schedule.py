"""Rows of integration tests, two at a time, whatever the number of workers; the others take what else there is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.xdist_schedule import IN_MORE, MORE, OWN, SHARED

ROOT = Path(__file__).resolve().parents[1]
CONFTEST = """
from tests.support.xdist_schedule import TwoClustersAtMost

def pytest_xdist_make_scheduler(config, log):
    return TwoClustersAtMost(config, log)
"""
TEST = """
import json, os, time
import pytest

@pytest.mark.parametrize("n", range({tests}))
def test_one(n):  # {fixture}
    began = time.time()
    time.sleep(0.1)
    with open("ran.jsonl", "a") as log:
        log.write(json.dumps([{row!r}, os.environ["PYTEST_XDIST_WORKER"], began, time.time()]) + "\\n")
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_two_rows_at_a_time_and_other_files_beside_them(tmp_path: Path, workers: int) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    files = {f"tests/integration/{IN_MORE[0]}": MORE, "tests/integration/test_a.py": SHARED}
    files |= {"tests/faults/test_b.py": SHARED, "tests/integration/test_c.py": OWN}
    files |= {f"tests/test_{name}.py": "others" for name in "defghijk"}
    for name, row in files.items():
        fixture = "uses ray_head" if row in (SHARED, MORE) else ""
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(TEST.format(tests=6, fixture=fixture, row=row))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-n", str(workers)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "tests"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    ran = [json.loads(line) for line in (tmp_path / "ran.jsonl").read_text().splitlines()]
    assert len(ran) == 6 * len(files)
    for _row, _worker, began, _ended in ran:
        rows = {row for row, _, start, end in ran if row != "others" and start <= began < end}
        assert len(rows) <= 2
    of_rows = {row: {worker for which, worker, *_ in ran if which == row} for row in (SHARED, OWN, MORE)}
    assert all(len(row) == 1 for row in of_rows.values()), "the files of a row share a worker, and so a Ray head"
    first_ended = max(end for row, _, _, end in ran if row == OWN)
    beside = [worker for row, worker, began, _ in ran if row == "others" and began < first_ended - 0.3]
    assert bool(beside) == (workers == 3)
