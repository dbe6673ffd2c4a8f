"""Every stored result can be compared, and what the benchmarks write today is of the form of their stored results."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks.compare import RESULTS, compare_results, main, read
from benchmarks.gaps import Gaps, gaps
from benchmarks.quantities import quantities

NO_SPEEDS = {
    "gate-looks.json": "rates of wrong decisions in simulated campaigns",
    "long-run-driver.json": "growth of a driver's memory by kind of object, looked at once",
    "measured-jobs.json": "what `fit_rates` reads, copied from other files",
    "mutants.json": "counts of mutants",
    "residual-oracle.json": "accuracies",
    "simulated-campaigns.json": "coverage and power in simulated campaigns",
    "text-budgets.json": "accuracies",
    "whitening.json": "sizes of whitened vectors",
}
SEVERAL_MACHINES = {
    "embedded-phases.json": "parts were measured on a GPU, others on a CPU",
    "hybrid-conditioning.json": "parts were measured on a GPU, others on a CPU",
}
FILES = sorted(path.name for path in RESULTS.glob("*.json"))


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_as_fast_as_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["compare", name, name])
    exit_code = main()
    shown = capsys.readouterr()
    if name in NO_SPEEDS or name in SEVERAL_MACHINES:
        assert exit_code == 2
        assert ("in common" if name in NO_SPEEDS else "not the same machine") in shown.err
        return
    runs = read(RESULTS / name)
    rows = compare_results(runs, runs)
    assert exit_code == 0
    assert rows
    assert {row.ratio for row in rows} == {1.0}


def test_the_files_without_speeds_are_there() -> None:
    assert NO_SPEEDS.keys() | SEVERAL_MACHINES.keys() <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_no_row_is_named_by_its_place(name: str) -> None:
    for run in read(RESULTS / name):
        assert [found for found in quantities(run) if re.search(r"(^|/)\d+(/|$)", found)] == []


@pytest.mark.parametrize("name", FILES)
def test_nothing_of_a_file_is_left_out_for_lack_of_a_label(name: str) -> None:
    runs = read(RESULTS / name)
    assert gaps(runs, runs) == Gaps()


def forms(path: Path) -> set[str]:
    """Return the names of a file's quantities with N for each number and size, which differ in a rehearsal."""
    return {re.sub(r"\d+|\b(tiny|paper)\b", "N", name) for run in read(path) for name in quantities(run)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "written", "stored", "parts"),
    [
        (
            "phase1_job --size tiny --steps 4 --evaluations 2",
            "phase1-tiny-before_question",
            "phase1-job-h100",
            ["step_ms", "total_s", "seconds/gate", "seconds/_train_step"],
        ),
        (
            "job_profile --size tiny --items 2",
            "job-profile-tiny-first-2",
            "job-profile-h100",
            ["training step, header cached/step_ms", "full length/seconds", "full length/parts_s/soft"],
        ),
        (
            "record_speed --trials 2 --steps 20 --items 4 --send 1",
            "record",
            "record-cpu",
            ["/frame", "/appendix", "mlflow_sqlite_points_per_second"],
        ),
        ("plan_speed --variants 20", "planning", "planning", ["seconds_per_N"]),
    ],
)
def test_todays_output_has_the_stored_quantities(
    command: str, written: str, stored: str, parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, *options = command.split()
    benchmark = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [str(benchmark.__file__), *options])
    monkeypatch.setenv("OUT", str(tmp_path))
    benchmark.main()
    path = tmp_path / f"{written}.json"
    common = forms(path) & forms(RESULTS / f"{stored}.json")
    assert [part for part in parts if not any(found.endswith(part) for found in common)] == []
    result = json.loads(path.read_text())
    assert result["command"] == f"python -m benchmarks.{command}"
    assert {"python", "torch", "cpus", "device"} <= result["environment"].keys()
