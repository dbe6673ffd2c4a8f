"""A storage that is read-only here, as a colleague's or a snapshot: what reads works, what writes names the way out."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.card_campaigns import make_ended
from tests.support.command_line import call_here, is_one_error_line
from tests.support.disks import small_disk

NAME = "spring"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with small_disk(tmp_path_factory.mktemp("disks") / "disk", 32) as disk:
        with make_ended(disk / "runs", NAME, items=20, seeds=(0,), sizes=(8,)).records.locked():
            pass  # so that there is a lock, which a start leaves
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        yield disk / "runs"


@pytest.mark.parametrize("command", [("status",), ("status", "--json"), ("stop",)])
def test_what_reads_works(storage: Path, command: tuple[str, ...]) -> None:
    done = call_here(*command, "--storage", str(storage))
    assert (done.returncode, done.stderr) == (0, "")
    assert NAME in done.stdout


@pytest.mark.parametrize("command", ["results", "card", "appendix"])
def test_what_writes_beside_the_records_takes_another_place(storage: Path, tmp_path: Path, command: str) -> None:
    refused = call_here(command, "--storage", str(storage))
    assert is_one_error_line(refused), refused.stderr
    assert "cannot write into --out" in refused.stderr
    place = tmp_path / ("results.csv" if command == "results" else "out")
    done = call_here(command, "--storage", str(storage), "--out", str(place))
    assert (done.returncode, done.stderr) == (0, "")
    assert str(place) in done.stdout
    assert place.exists()


def test_reports_are_written_and_the_rest_is_a_warning(storage: Path, tmp_path: Path, recwarn: object) -> None:
    done = call_here("report", "--storage", str(storage), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert str(tmp_path / "LOG.md") in done.stdout


@pytest.mark.parametrize("command", [("resume",), ("phase1",), ("plan", "phase1")])
def test_what_starts_is_refused_in_one_line(storage: Path, command: tuple[str, ...]) -> None:
    done = call_here(*command, "--storage", str(storage))
    assert is_one_error_line(done), done.stderr
    assert "(Read-only file system): name a folder that you may write" in done.stderr
