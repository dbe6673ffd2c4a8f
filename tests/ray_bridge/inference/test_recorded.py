"""A record whose rows, verdicts or reported accuracies do not fit together is not verified."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from bridge_common.files import read_json, read_jsonl, write_json, write_jsonl
from ray_bridge import Translator
from ray_bridge.inference.bundle import verify


def problems(translator: Translator, folder: Path) -> str:
    models = {"source": translator.pair.source, "target": translator.pair.target}
    result = verify(Translator.load(folder, **models), items=1)
    assert result.passed == (not result.problems)
    assert all("\n" not in line for line in result.problems)
    return "\n".join(result.problems)


def rows_of(folder: Path, change: Callable[[list], object]) -> None:  # type: ignore[type-arg]
    rows = read_jsonl(folder / "samples.jsonl")
    change(rows)
    write_jsonl(folder / "samples.jsonl", rows)


def fewer(folder: Path) -> None:
    rows_of(folder, lambda rows: rows.__delitem__(slice(2, None)))


def other_gold(folder: Path) -> None:
    """Forge gold and verdict alike, so that they fit."""
    rows_of(folder, lambda rows: rows[1].update(gold="7", bridged_output="#### 7", bridged_correct=True))


def other_verdict(folder: Path) -> None:
    rows_of(folder, lambda rows: rows[1].update(target_alone_correct=not rows[1]["target_alone_correct"]))


def twice(folder: Path) -> None:
    rows_of(folder, lambda rows: rows.__setitem__(1, rows[0]))


def other_result(folder: Path) -> None:
    result = read_json(folder / "result.json")
    write_json(folder / "result.json", result | {"metrics": result["metrics"] | {"accuracy/bridged": 0.987}})


def other_config(folder: Path) -> None:
    config = read_json(folder / "config.json")
    record = config["record"] | {"metrics": config["record"]["metrics"] | {"accuracy/source_alone": 0.987}}
    write_json(folder / "config.json", config | {"record": record})


def other_trial(folder: Path) -> None:
    trial = read_json(folder / "trial.json")
    write_json(folder / "trial.json", trial | {"spec": trial["spec"] | {"seed": 7}})


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (fewer, "result.json: 1"),
        (fewer, "samples.jsonl has 2"),
        (other_gold, "result.json: accuracy"),
        (other_verdict, "1 recorded verdicts of target_alone do not follow from its outputs"),
        (twice, "samples.jsonl has items more than once"),
        (other_result, "result.json: accuracy 0.987 of bridged is reported"),
        (other_config, "the recorded metrics: accuracy 0.987 of source_alone is reported"),
        (lambda folder: (folder / "result.json").unlink(), "result.json is missing"),
        (lambda folder: (folder / "events.jsonl").unlink(), "events.jsonl is missing"),
        (lambda folder: (folder / "environment.json").unlink(), "environment.json is missing"),
        (lambda folder: half(folder / "trial.json"), "trial.json is damaged"),
        (lambda folder: half(folder / "environment.json"), "environment.json is damaged"),
        (lambda folder: half(folder / "events.jsonl"), "events.jsonl is damaged"),
        (lambda folder: (folder / "events.jsonl").write_text(""), "events.jsonl is damaged"),
        (lambda folder: (folder / "plan.json").write_text("[]"), "plan.json is damaged"),
        (other_trial, "trial.json is of another trial than config.json"),
        (lambda folder: write_json(folder / "trial.json", {"spec": 7}), "trial.json is of another trial"),
        (lambda folder: write_json(folder / "result.json", {}), "result.json: no accuracy is reported"),
    ],
)
def test_what_does_not_fit_is_said(
    translator: Translator, bundle: Path, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    forged = shutil.copytree(bundle, tmp_path / "forged")
    change(forged)
    assert message in problems(translator, forged)


def test_a_damaged_result_is_one_remedy(translator: Translator, bundle: Path, tmp_path: Path) -> None:
    torn = shutil.copytree(bundle, tmp_path / "torn")
    half(torn / "result.json")
    with pytest.raises(UserError, match=r"result.json is damaged \([^()]*\): export the translator again$"):
        problems(translator, torn)


def test_a_whole_record_fits(translator: Translator, bundle: Path) -> None:
    assert problems(translator, bundle) == ""
    assert verify(translator, items=1).passed


def test_a_trials_gold_answers_are_compared_with_the_tasks(translator: Translator, trial: Path, tmp_path: Path) -> None:
    forged = shutil.copytree(trial, tmp_path / "trials" / "forged")
    rows_of(forged, lambda rows: rows[1].update(gold="7"))
    assert "1 recorded questions are not the task's" in problems(translator, forged)
