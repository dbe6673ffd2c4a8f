"""What one side of a comparison measured and the other lacks is said, and is exit code 1 if NEW lacks it."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import main

NAN, INFINITY = float("nan"), float("inf")
COMMAND = "python -m benchmarks.train_step"
Compare = Callable[[Any, Any], tuple[int, list[str]]]


@pytest.fixture
def compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Compare:
    """Compare two results, or two lists of the results of runs; return the exit code and the lines after the table."""

    def written(name: str, runs: Any) -> str:
        folder = tmp_path / name
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier comparison of the same test
        folder.mkdir()
        for i, run in enumerate(runs if isinstance(runs, list) else [runs]):
            (folder / f"run{i}.json").write_text(json.dumps(run))
        return str(folder)

    def compared(base: Any, new: Any) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["compare", written("base", base), written("new", new)])
        exit_code = main()
        shown = capsys.readouterr()
        lines = (shown.out + shown.err).splitlines()
        counts = [i for i, line in enumerate(lines) if line[:1].isdigit()]
        after = lines[counts[0] + 1 :] if counts else lines
        return exit_code, [line for line in after if not line.startswith("fewer than")]

    return compared


def run(**values: Any) -> dict[str, Any]:
    return {"environment": {"gpu": "H100", "device": "cuda"}, "command": COMMAND, **values}


BASE = run(step_ms=70.0, tokens_per_s=900.0, gate={"seconds": 5.0})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0.0"),
        (-3, "-3"),
        (NAN, "NaN"),
        (INFINITY, "Infinity"),
        (None, "null"),
        (True, "true"),
        ("fast", '"fast"'),
        ([], "[]"),
        ([5.0, NAN], "[5.0, NaN]"),
        (["a text of many words"] * 9, '["a text of many words", "a text of m...'),
        pytest.param(10**400, f"1{'0' * 36}...", id="400 digits"),
    ],
)
def test_what_is_no_finite_number_above_zero_is_named(value: Any, said: str, compare: Compare) -> None:
    code, (title, line) = compare(BASE, run(step_ms=70.0, tokens_per_s=900.0, gate={"seconds": value}))
    assert (code, line) == (1, f"  gate/seconds: {said}")
    assert title == "lacking in NEW, or no finite number above zero: measure again, or choose a BASE without it:"


def test_each_is_named_in_the_order_of_base(compare: Compare) -> None:
    code, lines = compare(BASE, run(step_ms=70.0, tokens_per_s=0.0, gate={"seconds": NAN}))
    assert (code, lines[1:]) == (1, ["  tokens_per_s: 0.0", "  gate/seconds: NaN"])


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (run(step_ms=70.0, tokens_per_s=900.0), "gate/seconds: missing"),
        (run(step_ms=70.0, tokens_per_s=900.0, gate={}), "gate/seconds: missing"),
        (run(step_ms=70.0, tokens_per_s=900.0, gate=None), "gate/seconds: null"),
        (run(step_ms=70.0, gate={"seconds": 5.0}), "tokens_per_s: missing"),
    ],
)
def test_what_is_missing_is_named(new: Any, said: str, compare: Compare) -> None:
    code, lines = compare(BASE, new)
    assert (code, lines[1:]) == (1, [f"  {said}"])


def test_what_has_nothing_usable_at_all_is_named(compare: Compare) -> None:
    code, lines = compare(run(step_ms=70.0), run(step_ms=NAN))
    assert (code, lines[1:]) == (1, ["  step_ms: NaN"])


def test_of_many_a_dozen_are_named_and_the_others_counted(compare: Compare) -> None:
    many = {f"part{i}_ms": 5.0 for i in range(20)}
    code, lines = compare(run(step_ms=70.0, **many), run(step_ms=70.0))
    assert code == 1
    assert (len(lines), lines[-1]) == (14, "  and 8 more")


def test_in_how_many_runs_is_said(compare: Compare) -> None:
    base = [run(step_ms=ms, tokens_per_s=900.0) for ms in (60, 61, 62)]
    code, lines = compare(base, [run(step_ms=ms, tokens_per_s=900.0) for ms in (60.0, NAN, 62)])
    assert (code, lines[1:]) == (1, ["  step_ms: NaN in 1 of 3 runs"])
    code, lines = compare(base, [base[0], run(step_ms=61), run(step_ms=62, tokens_per_s=None)])
    assert (code, lines[1:]) == (1, ["  tokens_per_s: missing and null in 2 of 3 runs"])


def test_one_of_several_rows_of_a_name_counts(compare: Compare) -> None:
    def seeds(*seconds: Any) -> dict[str, Any]:
        return run(rows=[{"variant": "full", "seed": seed, "seconds": each} for seed, each in enumerate(seconds)])

    code, lines = compare(seeds(30.0, 30.0, 30.0), seeds(30.0, NAN, 30.0))
    assert (code, lines[1:]) == (1, ["  rows/full/seconds: NaN"])


def test_what_some_runs_of_base_lack_some_of_new_may_lack(compare: Compare) -> None:
    whole, part = run(step_ms=70.0, gate_s=5.0), run(step_ms=70.0)
    assert compare([whole, part], [whole, part]) == (0, [])
    assert compare([whole, part], [part, part])[0] == 1


def test_rows_runs_and_sections_of_other_sizes_may_be_absent(compare: Compare) -> None:
    def rows(*ways: str) -> dict[str, Any]:
        return run(rows=[{"way": way, "rows": 50, "step_ms": 10.0} for way in ways])

    code, lines = compare(rows("before_question", "first"), rows("first"))
    assert (code, lines[1:]) == (0, ["  rows/before_question, rows 50"])
    assert lines[0].startswith("not compared, since NEW has nothing of that size, way or part")
    assert compare([run(steps=20, step_ms=7.0), run(steps=30, step_ms=7.0)], run(steps=30, step_ms=7.0)) == (
        0,
        [lines[0], "  steps 20"],
    )
    base = run(step_ms=70.0, train={"rows": 8, "ms": 9.0, "s": 1.0})
    assert compare(base, run(step_ms=70.0, train={"rows": 9, "ms": 9.0})) == (0, [lines[0], "  train (rows 8)"])
    assert compare(base, run(step_ms=70.0)) == (0, [lines[0], "  train (rows 8)"])
    assert compare(base, run(step_ms=70.0, train=None))[0] == 1  # it was to be measured
    assert compare(base, run(step_ms=70.0, train={"rows": 8, "error": "out of memory"}))[0] == 1


def test_of_runs_that_are_absent_the_smallest_part_is_named(compare: Compare) -> None:
    plain, sized = run(step_ms=70.0), run(steps=30, step_ms=70.0)
    code, lines = compare([plain, sized], sized)
    assert (code, lines[1:]) == (0, ["  results without a size"])
    rows = [{"way": way, "step_ms": 10.0} for way in ("first", "before_question")]
    code, lines = compare(run(steps=20, rows=rows), [sized, run(steps=20, rows=rows[:1])])
    assert (code, lines[1:]) == (0, ["  steps 20/rows/before_question"])


def test_rows_of_a_name_that_measured_nothing_are_named(compare: Compare) -> None:
    base = run(rows=[{"way": way, "step_ms": 10.0, "peak_gib": 5.0} for way in ("before_question", "first")])
    new = run(rows=[base["rows"][0], {"way": "first", "error": "out of memory"}])
    code, lines = compare(base, new)
    assert (code, lines[1:]) == (1, ["  rows/first/step_ms: missing", "  rows/first/peak_gib: missing"])


def test_another_command_may_leave_sections_out_but_no_value(compare: Compare) -> None:
    other = {"command": f"{COMMAND} --only step"}
    code, lines = compare(BASE, run(step_ms=70.0, tokens_per_s=900.0) | other)
    assert (code, lines[1:]) == (0, ["  gate"])
    code, lines = compare(BASE, run(step_ms=70.0, gate={"seconds": 5.0}) | other)
    assert (code, lines[1:]) == (1, ["  tokens_per_s: missing"])
    for unknown in (None, ["python"]):
        assert compare(BASE, run(step_ms=70.0, tokens_per_s=900.0) | {"command": unknown})[0] == 1


def test_a_small_time_that_was_rounded_to_zero_is_no_failure(compare: Compare) -> None:
    base = run(step_ms=70.0, capture_s=0.1)
    code, lines = compare(base, run(step_ms=70.0, capture_s=0.0))
    assert (code, lines[1:]) == (0, ["  capture_s: 0.0, which may be rounded"])
    assert compare(base, run(step_ms=70.0, capture_s=NAN))[0] == 1
    assert compare(run(step_ms=70.0, a_per_s=0.1), run(step_ms=70.0, a_per_s=0))[0] == 1
    assert compare(run(step_ms=70.0, capture_s=0.2), run(step_ms=70.0, capture_s=0))[0] == 1
    assert compare(run(capture_s=0.1), run(capture_s=0.0))[0] == 2  # nothing was compared


def test_what_is_wrong_in_base_is_named_and_no_fault_of_new(compare: Compare) -> None:
    new = run(step_ms=70.0, tokens_per_s=900.0)
    code, lines = compare(run(step_ms=70.0, tokens_per_s=INFINITY), new)
    assert (code, lines[1:]) == (0, ["  tokens_per_s: Infinity"])
    assert lines[0].startswith("no finite number above zero in BASE")
    assert compare(run(step_ms=70.0), new) == (0, [])  # what BASE did not measure
    unusable = run(step_ms=70.0, tokens_per_s=None)
    assert compare(unusable, unusable) == (0, [])  # as `peak_gib` on a CPU
    code, (line,) = compare(run(step_ms=INFINITY), run(step_ms=70.0))
    assert code == 2
    assert line.endswith("in common: BASE has no finite number above zero for step_ms: Infinity")


def test_rows_without_name_or_size_are_left_out_with_a_line(compare: Compare) -> None:
    rows = [{"kind": "a", "step_ms": 1.0}, {"kind": "b", "step_ms": 20.0}]
    code, lines = compare(run(total_s=9.0, rows=rows), run(total_s=9.0, rows=rows[::-1]))
    assert (code, lines) == (0, ["left out, since the rows have no name or size to tell them apart:", "  rows"])
    code, (line,) = compare(run(rows=rows), run(rows=rows[::-1]))
    assert code == 2
    assert line.endswith("in common: rows without name or size are left out (rows)")
    no_speeds = [{"of": "a", "low": 1.0}, {"of": "b", "low": 2.0}]
    assert compare(run(total_s=9.0, differences=no_speeds), run(total_s=9.0, differences=no_speeds)) == (0, [])
