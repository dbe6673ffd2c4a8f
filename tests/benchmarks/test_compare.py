"""Two results of a benchmark are compared in ratios, with an interval where there are several runs."""

import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from benchmarks.compare import RESULTS, compare, compare_results, main, read
from benchmarks.quantities import quantities

H100 = {"gpu": "H100", "device": "cuda", "cpus": 16, "gpus": 1, "torch": "2.11"}


def run(step: float, rate: float, **environment: Any) -> dict[str, Any]:
    return {
        "environment": H100 | environment,
        "command": "python -m benchmarks.train_step",
        "train": {"step_ms": step, "floor_ms": 30.0, "tokens_per_s": rate, "rows": 8, "peak_gib": 40.0},
        "metrics": {"accuracy": 0.5, "cost_seconds": 3.0},
    }


def folder(path: Path, runs: list[dict[str, Any]]) -> Path:
    path.mkdir()
    for i, content in enumerate(runs):
        (path / f"run{i}.json").write_text(json.dumps(content))
    return path


def code(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["compare", *map(str, arguments)])
    return main()


def test_times_rates_and_memory_are_found_and_nothing_else() -> None:
    assert quantities(run(70.0, 900.0)) == {
        "train (rows 8)/step_ms": 70.0,
        "train (rows 8)/tokens_per_s": 900.0,
        "train (rows 8)/peak_gib": 40.0,
    }
    listed = {
        "jobs": [
            {"name": "gate", "seconds": 5.5},
            {"name": "all", "seconds": {"gate": 2, "prepare": 3.5}, "step_ms": [1, 2, 7]},
        ]
    }
    assert quantities(listed) == {
        "jobs/gate/seconds": 5.5,
        "jobs/all/seconds/gate": 2.0,
        "jobs/all/seconds/prepare": 3.5,
        "jobs/all/step_ms": 2.0,
    }


def test_sizes_and_settings_are_no_times() -> None:
    sizes = {"seconds": [{"trials": 200, "steps": 2000, "items": 5, "frame": 2.5}]}
    assert quantities(sizes) == {"seconds/trials 200, steps 2000, items 5/frame": 2.5}
    start = {"seconds": {"ray.init": 3.0, "source: GB": 14.5}, "load_s": 60, "answers_per_s": 12.3}
    assert quantities(start) == {"load_s 60/seconds/ray.init": 3.0, "load_s 60/answers_per_s": 12.3}
    assert quantities({"pass_ms": 3.0, "int8_over_full": {"8b": {"pass_ms": 1.6}}}) == {"pass_ms": 3.0}


@pytest.mark.parametrize(
    ("key", "better"),
    [
        ("seconds_per_10000", "lower"),
        ("s_per_trial", "lower"),
        ("ms_an_example", "lower"),
        ("makespan_h", "lower"),
        ("peak_mib", "lower"),
        ("gib_on_each", "lower"),
        ("points_a_second", "higher"),
        ("gb_per_s_on_each", "higher"),
        ("mlflow_sqlite_points_per_second", "higher"),
    ],
)
def test_units_in_the_middle_of_a_name_count(key: str, better: str) -> None:
    (row,) = compare_results([{key: 10.0}] * 3, [{key: 20.0}] * 3)
    assert row.verdict == ("worse" if better == "lower" else "better")


def test_rows_are_found_by_what_they_are_and_not_by_their_place() -> None:
    def rows(*ways: str, **sizes: int) -> dict[str, Any]:
        return {"rows": [{"way": way, "step_ms": 10.0 * len(way), **sizes} for way in ways]}

    (row,) = compare_results([rows("before_question", "first")], [rows("first")])
    assert (row.name, row.ratio) == ("rows/first/step_ms", 1.0)
    assert compare_results([rows("first", prompt=1264)], [rows("first", prompt=1450)]) == []
    assert compare_results([rows("first", workers=1)], [rows("first", workers=1)])[0].ratio == 1.0
    assert compare_results([{"size": "paper", "step_ms": 58.0}], [{"size": "tiny", "step_ms": 44.0}]) == []
    digests = [{"trials": [{"trial": f"full-{digest}", "ends": 30.0}]} for digest in ("2e9cc5d9", "9a840eca")]
    assert [row.name for row in compare_results(digests[:1], digests[1:])] == ["trials/full/ends"]


def test_a_campaigns_moments_are_compared() -> None:
    trial = {"trial": "full-2e9cc5d9", "first_step": 144.3, "start": {"start/launch": 33.8}, "steps_recorded": 9}
    found = quantities({"measured": {"began": 1.7e9, "gate": 439.4, "trials": [trial], "between": [6.0, 6.4, 5.0]}})
    assert found == {
        "measured/gate": 439.4,
        "measured/trials/full/first_step": 144.3,
        "measured/trials/full/start/launch": 33.8,
        "measured/between": 6.0,
    }


def test_a_run_that_holds_a_list_is_one_run() -> None:
    (row,) = compare_results([{"between": [48.0, 50, 54]}], [{"between": [6.0, 6.1, 5.9]}])
    assert (row.base, row.new, row.low, row.verdict) == (50.0, 6.0, None, "much better")
    memory = {"peak_gib_by_gpu": [[50.0, 51.0], [52.0, 53.0]]}
    assert quantities(memory) == {"peak_gib_by_gpu": 53.0}  # what a GPU must have


def test_the_interval_is_welchs_on_logarithms() -> None:
    base, new = [70.0, 71.0, 69.5], [64.0, 66.0, 65.0]
    found = compare(base, new, name="step_ms")
    logs = [[math.log(v) for v in values] for values in (new, base)]
    expected = stats.ttest_ind(*logs, equal_var=False).confidence_interval()
    assert (found.ratio, found.verdict) == (65.0 / 70.0, "better")
    assert (found.low, found.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))


@pytest.mark.parametrize(
    ("name", "base", "new", "verdict"),
    [
        ("step_ms", [70, 71, 69], [80, 81, 79], "worse"),
        ("tokens_per_s", [70, 71, 69], [80, 81, 79], "better"),
        ("tokens_per_s", [80, 81, 79], [70, 71, 69], "worse"),
        ("step_ms", [70, 70.1, 69.9], [70.2, 70.1, 70.3], "same"),  # shown to differ, by less than the margin
        ("step_ms", [60, 80, 70], [66, 88, 77], "unclear"),
        ("step_ms", [70, 70, 70], [70, 70, 70], "same"),
        ("step_ms", [37], [80], "much worse"),
        ("step_ms", [80], [37], "much better"),
        ("step_ms", [70], [80], "no verdict"),
        ("step_ms", [70, 71], [80, 81], "no verdict"),  # two runs give no interval
        ("tokens_per_s", [80], [37], "much worse"),
        ("peak_gib", [50], [70], "much worse"),
        ("capture_s", [0.06], [0.09], "no verdict"),  # a hundredth of a second, rounded
        ("capture_s", [0.3], [0.9], "much worse"),
    ],
)
def test_verdicts(name: str, base: list[float], new: list[float], verdict: str) -> None:
    assert compare(base, new, name=name).verdict == verdict


def test_a_slower_step_is_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = folder(tmp_path / "base", [run(step, 900.0) for step in (70.0, 71.0, 69.0)])
    new = folder(tmp_path / "new", [run(step, 900.0, torch="2.12") for step in (80.0, 81.0, 79.0)])
    assert code(monkeypatch, base, new) == 1
    printed = capsys.readouterr().out
    assert "torch: 2.11, now 2.12" in printed
    assert "1 worse, 2 same" in printed
    assert code(monkeypatch, new, base) == 0


def test_another_card_is_refused_and_compared_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = folder(tmp_path / "base", [run(70.0, 900.0)])
    new = folder(tmp_path / "new", [run(60.0, 950.0, gpu="H200")])
    assert code(monkeypatch, base, new) == 2
    assert "gpu: H100, now H200" in capsys.readouterr().err
    assert code(monkeypatch, base, new, "--other-card") == 0
    assert "3 no verdict" in capsys.readouterr().out
    for other in ({"gpus": 4}, {"device": "cpu", "gpu": None}, {"cpus": 64}):
        (tmp_path / "one.json").write_text(json.dumps(run(70.0, 900.0, **other)))
        assert code(monkeypatch, base, tmp_path / "one.json") == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("place", ["second file", "deeper", "machine", "same side"])
def test_another_card_is_found_in_any_file_at_any_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    base, h200 = [run(70.0, 900.0), run(70.0, 900.0)], run(60.0, 950.0, gpu="H200")
    new = {
        "second file": [run(70.0, 900.0), h200],
        "deeper": [run(70.0, 900.0) | {"parts": [{"first": h200}]}],
        "machine": [{"machine": {"device": "NVIDIA H200", "cores": "16"}, "train": h200["train"]}],
        "same side": [run(70.0, 900.0)],
    }[place]
    if place == "same side":
        base[1] = h200
    assert code(monkeypatch, folder(tmp_path / "base", base), folder(tmp_path / "new", new)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("not the same machine (gpu: H100")
    assert "H200" in line


def test_a_much_slower_single_run_is_exit_code_1_and_says_that_it_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = folder(tmp_path / "base", [run(37.0, 900.0)]), folder(tmp_path / "new", [run(80.0, 900.0)])
    assert code(monkeypatch, base, new) == 1
    printed = capsys.readouterr().out
    assert "1 much worse, 2 no verdict" in printed
    assert "fewer than 3 runs on a side: no interval" in printed
    assert code(monkeypatch, base, new, "--much", "3") == 0
    assert code(monkeypatch, base, base) == 0


def test_runs_of_a_file_count_and_what_stands_beside_them_does_not(tmp_path: Path, capsys: Any) -> None:
    runs = [{"position": way, "steps": 20, "step_ms": ms} for way, ms in (("first", 200.0), ("before_question", 70.0))]
    stored = tmp_path / "stored.json"
    stored.write_text(json.dumps({"note": "", "runs": runs, "before": {"step_ms": 300.0}}))
    (row,) = compare_results(read(stored), [runs[1]])
    assert (row.name, row.ratio) == ("before_question, steps 20/step_ms", 1.0)


def test_nothing_in_common_names_the_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, steps in (("a", 1000), ("b", 2000)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"steps": steps, "total_s": 200.0}))
    assert code(monkeypatch, tmp_path / "a.json", tmp_path / "b.json") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "one is of steps 1000, the other of steps 2000" in line


def test_results_of_several_benchmarks_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = folder(tmp_path / "base", [run(70.0, 900.0)])
    new = folder(tmp_path / "new", [run(70.0, 900.0), run(7.0, 9.0) | {"command": "python -m benchmarks.decoding"}])
    assert code(monkeypatch, base, new) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("results of several benchmarks (train_step, decoding)")
    (tmp_path / "by_hand.json").write_text(json.dumps(run(70.0, 900.0) | {"command": "python benchmarks/train.py"}))
    assert code(monkeypatch, base, tmp_path / "by_hand.json") == 0  # what names no benchmark may be of the same one


def test_another_command_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    base = folder(tmp_path / "base", [run(70.0, 900.0)])
    new = folder(tmp_path / "new", [run(70.0, 900.0) | {"command": "python -m benchmarks.train_step --ways first"}])
    assert code(monkeypatch, base, new) == 0
    shown = "command: python -m benchmarks.train_step\n    now: python -m benchmarks.train_step --ways first"
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize("name", ["record-cpu.json", "record-cpu", "results/record-cpu.json"])
def test_a_stored_result_is_found_by_its_name(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert code(monkeypatch, name, RESULTS / "record-cpu.json") == 0


def test_the_command_of_the_readme_runs() -> None:
    root = RESULTS.parents[1]
    (line,) = re.findall(
        r"^    (python -m benchmarks\.compare .*?) +#", (root / "benchmarks/README.md").read_text(), re.M
    )
    program, *words = shlex.split(line)
    assert program == "python"
    words = [str(RESULTS / "real-pair-h100.json") if word == "NEW" else word for word in words]
    done = subprocess.run([sys.executable, *words], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_no_result_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = folder(tmp_path / "good", [run(70.0, 900.0)])
    (tmp_path / "torn.json").write_text('{"train":')
    (tmp_path / "empty").mkdir()
    (tmp_path / "facts.json").write_text('{"environment": {}}')
    for bad in ("torn.json", "missing.json", "empty", "facts.json"):
        assert code(monkeypatch, good, tmp_path / bad) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "more than 100 levels deep"),
        ('{"a":' * 3000 + "1" + "}" * 3000, "more than 100 levels deep"),
        ('{"step_ms": 5.0, "a":' + "[" * 400 + "]" * 400 + "}", "more than 100 levels deep"),
        ('{"step_ms": 1' + "0" * 5000 + "}", "limit"),
        ('{"runs": [], "step_ms": 5.0}', "no result of a benchmark"),
        ('{"machine": {"cores": "16 cores"}, "step_ms": 5.0}', "cpus: 16, now 16 cores"),
        ('{"machine": {"cores": Infinity}, "step_ms": 5.0}', "cpus: 16, now inf"),
    ],
)
def test_odd_files_are_one_line(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = folder(tmp_path / "good", [{"environment": {"cpus": 16}, "step_ms": 5.0}])
    (tmp_path / "odd.json").write_text(text)
    assert code(monkeypatch, good, tmp_path / "odd.json") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize("cores", [None, "16", 16, 16.0])
def test_cores_are_a_fact_if_known(cores: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = folder(tmp_path / "good", [{"environment": {"cpus": 16}, "step_ms": 5.0}])
    odd = folder(tmp_path / "odd", [{"machine": {"cores": cores}, "step_ms": 5.0}])
    assert code(monkeypatch, good, odd) == 0


def test_values_at_the_ends_of_what_floats_hold_are_compared() -> None:
    (row,) = compare_results([{"step_ms": 1e300}], [{"step_ms": 1e-300}])
    assert row.verdict == "much better"
    wide = [{"step_ms": value} for value in (1e-300, 1.0, 1e300)]
    (row,) = compare_results(wide, wide)
    assert (row.low, row.high, row.verdict) == (0.0, math.inf, "unclear")


def test_a_path_that_cannot_be_looked_for_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = folder(tmp_path / "good", [run(70.0, 900.0)])
    assert code(monkeypatch, good, "a" * 300) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_only_what_both_measured_is_compared() -> None:
    more = run(70.0, 900.0) | {"gate": {"seconds": 5.0}}
    assert [row.name for row in compare_results([run(70.0, 900.0)], [more])] == [
        "train (rows 8)/step_ms",
        "train (rows 8)/tokens_per_s",
        "train (rows 8)/peak_gib",
    ]
