"""`benchmark` on a trial that was trained here: a table and one JSON object with the same numbers."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge_common.errors import UserError
from bridge_common.files import read_json
from bridge_common.metric_names import CONDITIONS, budgeted
from bridge_common.shown_names import condition_name
from cluster.cli.app import app
from tests.support.local_jobs import finish_trial, small_spec
from tests.support.model_pairs import make_pair

CONDITIONS_AT_2 = (*CONDITIONS, *budgeted([2]))


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"steps": 2, "eval_every": 2, "warmup_steps": 1, "text_budgets": (2,)}
    spec = small_spec(make_pair(tmp_path_factory.mktemp("pair")), **sizes)
    return finish_trial(spec, tmp_path_factory.mktemp("campaign") / "trials" / "full-0")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), standalone_mode=False)


def test_the_costs_of_all_test_questions_are_those_that_the_job_recorded(trial: Path) -> None:
    done = call("benchmark", trial, "--items", 13, "--batch-size", 4, "--json")
    assert done.exception is None, done.output
    found = json.loads(done.output)
    recorded = {n: v for n, v in read_json(trial / "metrics.json").items() if n.startswith("cost/")}
    assert {n: found["metrics"][n] for n in recorded} == recorded
    assert (found["questions"], found["batch_size"], found["device"]) == (12, 4, "cpu")
    seconds = found["timings"]
    for condition in CONDITIONS_AT_2:
        first, whole, each = (
            seconds[f"cost/{name}/{condition}"] for name in ("first_token_seconds", "answer_seconds", "seconds")
        )
        assert 0 < first < 10 * whole
        assert each == pytest.approx(whole / 4)
    wrote = "cost/answer_seconds/source_alone"
    assert seconds["cost/first_token_seconds/text_bridge"] > seconds[wrote], "the source's answer comes first"


def test_one_question_at_a_time_is_a_table(trial: Path) -> None:
    lines = call("benchmark", trial, "--items", 2).output.splitlines()
    end = 2 + len(CONDITIONS_AT_2)
    assert [line.split("|")[1].strip() for line in lines[2:end]] == list(map(condition_name, CONDITIONS_AT_2))
    assert len({len(line) for line in lines[:end]}) == 1
    shuffled = next(line for line in lines if "shuffled soft" in line)
    assert shuffled.count("not timed") == 2
    assert "2 questions, one at a time, on cpu, 1 threads; medians over batches" in lines[-1]


def test_what_takes_long_says_so_first(trial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("benchmark", trial, "--items", 2).stderr == ""
    monkeypatch.setattr("ray_bridge.inference.benchmark.DECODED", 1e5)
    assert "2 questions under 9 conditions: " in call("benchmark", trial, "--items", 2).stderr


def test_a_job_keeps_its_timings_out_of_its_metrics(trial: Path) -> None:
    timings = read_json(trial / "result.json")["timings"]
    assert set(timings) == {f"cost/seconds/{condition}" for condition in CONDITIONS_AT_2}
    assert all(value > 0 for value in timings.values())
    assert not timings.keys() & read_json(trial / "metrics.json").keys()


def test_what_is_asked_wrongly_is_one_line(tmp_path: Path) -> None:
    error = call("benchmark", tmp_path / "nowhere").exception
    assert isinstance(error, UserError)
    assert "no such folder" in str(error)
