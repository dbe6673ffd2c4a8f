"""The table of recorded jobs in `docs/costs.md` has the times and the errors of their estimates."""

import re

import pytest

from benchmarks.fit_rates import left_out, recorded
from tests.support.documents import ROOT
from tests.support.markdown_tables import tables

ROWS = {
    "one H100, 2,000 steps, header cached": [("H100, 2,000 steps, header cached", "total")],
    "one H100, 2,000 steps, header in every row, median of three": [
        ("H100, 2,000 steps, header in every row", "total")
    ],
    "one H200, 2,000 steps, header in every row": [("H200, 2,000 steps, header in every row", "total")],
    "one H100, SmolLM2-135M on both sides, all six conditions": [("H100, SmolLM2-135M on both sides", "total")],
    "four H100, header cached, a real campaign: final evaluation under six conditions": [
        ("four H100, six conditions, header cached", "test")
    ],
    "the same: a validation; a decode-aware step; preparation": [
        ("four H100, six conditions, header cached", "validation_each"),
        ("four H100, six conditions, header cached", "decode_aware"),
        ("four H100, six conditions, header cached", "preparation"),
    ],
    "one H200, first decode-aware step, K = 512": [("H200, decode-aware step with 512 soft tokens", "decode_aware")],
    "two H100, a 32B target in two parts: a step, header cached; in every row": [
        ("two H100, 32B in two parts, header cached", "step"),
        ("two H100, 32B in two parts, header in every row", "step"),
    ],
    "four H100, a 70B target in four parts: a step, header cached; in every row": [
        ("four H100, 70B in four parts, header cached", "step"),
        ("four H100, 70B in four parts, header in every row", "step"),
    ],
    "two H200, a 32B target in two parts: an evaluation of 50 questions": [
        ("two H200, evaluations of 32B in two parts, header cached", "validation_each"),
        ("two H200, evaluations of 32B in two parts, header in every row", "validation_each"),
    ],
}


def test_the_table_has_the_errors_of_the_estimates() -> None:
    jobs = recorded()
    errors, measured = left_out(jobs), {job.name: job.measured for job in jobs}
    (table,) = (t for t in tables((ROOT / "docs/costs.md").read_text()) if "recorded job" in next(iter(t.values())))
    assert table.keys() == ROWS.keys()
    for row, parts in ROWS.items():
        seconds = [float(number) for number in table[row]["measured, s"].split(";")]
        assert seconds == [pytest.approx(measured[job][part], rel=0.02) for job, part in parts], row
        written = [int(number.replace("−", "-")) for number in re.findall(r"[+−]?\d+", table[row]["error"])]
        assert written == [pytest.approx(100 * errors[job][part], abs=0.6) for job, part in parts], row
