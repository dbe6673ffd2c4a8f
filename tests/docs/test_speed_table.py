"""The table of speeds in `benchmarks/README.md` has the numbers of the files of results."""

import json
import re
from statistics import median
from typing import Any

import pytest

from tests.support.documents import ROOT
from tests.support.markdown_tables import tables

PAGE = "benchmarks/README.md"


def results(name: str) -> Any:
    return json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())


def measured() -> dict[str, list[float]]:
    """Return what stands in the column H100, by the beginning of a row's name."""
    job, profile = results("phase1-job-h100")["runs"], results("job-profile-h100")
    step, gate = profile["training step, header cached"], profile["gate, header in every row"]
    whole, every_row = job[0], [run for run in job if run["position"] == "first" and run["new_tokens"] == 256]
    decoding = results("decoding-h100")["runs"][0]["rows"]
    real, on_four = results("real-pair-h100"), results("real-pair-h100-x4")
    first = results("campaign-gate-paper-h100-x4")["measured"]["trials"][0]
    resident = results("campaign-resident-paper-h100-x4")["runs"][1]["measured"]["trials"][0]
    parts = {n: results(f"sharded-target-{n}")["parts"] for n in ("70b-h100-x4", "32b-h100-x2")}
    large = {f"{name} {part}": found["found"] for name, all_ in parts.items() for part, found in all_.items()}
    ms = {name: found["step_ms"] for name, found in large.items() if "step_ms" in found}
    starts = [trial["start"]["start/seconds_to_first_step"] for trial in (first, resident)]
    return {
        "training step, header cached": [step["step_ms"], step["step_ms_if_each_is_waited_for"]],
        "training step, header in every": [profile["in turns"]["header in every row"]["median_ms"]["new"]],
        "training step, header cached, ms": [median(run["step_ms"] for run in job if run["position"] != "first")],
        "training step, header in every row": [median(run["step_ms"] for run in every_row)],
        "decode step, 50 rows": [decoding[0]["step_ms"]],
        "decode step after a cached header": [decoding[1]["step_ms"]],
        "evaluation of 50 items": [
            whole["seconds"]["_validate"] / whole["evaluations"],
            median(run["seconds"]["_validate"] / run["evaluations"] for run in every_row),
        ],
        "gate": [
            whole["seconds"]["gate"],
            gate["answers of full length"]["seconds"],
            median(run["seconds"]["gate"] for run in every_row),
        ],
        "the same, answers as long": [
            whole["answer_lengths"]["real_s"],
            median(run["answer_lengths"]["real_s"] for run in every_row),
            gate["answers of real lengths"]["seconds"],
        ],
        "peak of memory in the job": [whole["peak_gib"]["gate"], max(run["peak_gib"]["gate"] for run in every_row)],
        "job after start-up": [whole["total_s"] / 60, median(run["total_s"] for run in every_row) / 60],
        "real 135M pair: step": [real["step_ms"], on_four["step_ms"]],
        "real 135M pair: whole phase 1": [real["total_s"], on_four["total_s"]],
        "from the command": [first["first_step"], resident["first_step"]],
        "of it": starts,
        "70B target": [ms["70b-h100-x4 decode graphed"], ms["70b-h100-x4 train before_question"]],
        "32B target": [
            ms[f"32b-h100-x2 train {name}"]
            for name in ("before_question launched", "before_question", "first launched", "first")
        ],
    }


def measured_on_an_h200() -> dict[str, list[float]]:
    """Return what stands in the column H200 of a job with the header in every row."""
    whole, *short = results("phase1-job-h200")["runs"]
    jobs = (whole, *short)
    return {
        "training step, header in every row": [whole["step_ms"], median(run["step_ms"] for run in short)],
        "evaluation of 50 items": [whole["seconds"]["_validate"] / whole["evaluations"]],
        "gate": [median(run["seconds"]["gate"] for run in jobs)],
        "the same, answers as long": [median(run["answer_lengths"]["real_s"] for run in jobs)],
        "peak of memory in the job": [max(run["peak_gib"]["gate"] for run in jobs)],
        "job after start-up": [whole["total_s"] / 60],
    }


@pytest.mark.parametrize(
    ("card", "row", "values"),
    [("H100", *row) for row in measured().items()] + [("H200", *row) for row in measured_on_an_h200().items()],
)
def test_the_column_has_the_measured_numbers(card: str, row: str, values: list[float]) -> None:
    (table,) = (t for t in tables((ROOT / PAGE).read_text()) if {"must", "H100"} <= next(iter(t.values())).keys())
    (cell,) = (cells[card] for name, cells in table.items() if name.startswith(row))
    written = re.findall(r"\d+(?:\.\d+)?", cell)
    for value in values:
        assert any(
            abs(float(number) - value) <= 0.5001 * 10.0 ** -len(number.partition(".")[2]) for number in written
        ), (value, cell)


def test_phase_1_on_cpus() -> None:
    (table,) = (t for t in tables((ROOT / PAGE).read_text()) if {"must", "H100"} <= next(iter(t.values())).keys())
    (cell,) = (cells["H100"] for name, cells in table.items() if "make phase1" in name)
    low, high = (float(number) for number in re.findall(r"\d\.\d", cell))
    assert low <= results("phase1-tiny-cpu")["seconds"] / 60 <= high + 0.05
