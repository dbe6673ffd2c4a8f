"""Small whole jobs on every kind of task: trained, decode-aware steps included, and measured under all conditions."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bridge_common.files import read_json, read_jsonl
from bridge_common.metric_names import CONDITIONS
from ray_bridge.config.task_mapping import known_mapping
from ray_bridge.tasks.registry import TASKS
from tests.support.local_jobs import run_job, small_spec
from tests.support.memorising import memorise
from tests.support.model_pairs import PairFolders

FIXTURES = Path(__file__).parents[2] / "data" / "mapped"
HAND_MADE = Path(__file__).parents[2] / "data" / "tasks"
SIZES: dict[str, Any] = {
    **{"train_examples": None, "validation_examples": 1, "test_examples": None, "num_fewshot": 1},
    **{"steps": 2, "batch_size": 2, "eval_every": 2, "warmup_steps": 1, "max_new_tokens": 4},
    **{"decode_aware": True, "decode_questions": 2, "decode_samples": 2},
}
LIKELIHOOD = {"arc_challenge": "choice_likelihood", "openbookqa": "letter_likelihood"}


def measured(folder: Path) -> tuple[list[dict[str, Any]], dict[str, float]]:
    return read_jsonl(folder / "samples.jsonl"), read_json(folder / "metrics.json")


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("openbookqa", "mmlu_redux")]


@pytest.mark.parametrize("name", ["arc_challenge", "ceval", *SLOW])
def test_multiple_choice_by_letter(folders: PairFolders, name: str, tmp_path: Path) -> None:
    run_job(small_spec(folders, task=name, task_data=str(FIXTURES / name), **SIZES), tmp_path)
    samples, metrics = measured(tmp_path)
    assert [row["id"] for row in samples] == [f"{name}-test-{i:05d}" for i in range(len(samples))]
    assert all(f"{condition}_output" in row for row in samples for condition in CONDITIONS)
    subjects = {row["subject"] for row in samples if "subject" in row}
    assert {f"accuracy/bridged/{subject}" for subject in subjects} <= metrics.keys()
    assert bool(subjects) == (name in ("mmlu_redux", "ceval"))


@pytest.mark.parametrize("name", LIKELIHOOD)
def test_multiple_choice_by_likelihood(folders: PairFolders, name: str, tmp_path: Path) -> None:
    mapping = known_mapping(name).replace(kind=LIKELIHOOD[name])
    spec = small_spec(folders, task="mapped", task_mapping=mapping, task_data=str(FIXTURES / name), **SIZES)
    run_job(spec, tmp_path)
    samples, metrics = measured(tmp_path)
    assert all(row[f"{condition}_valid"] for row in samples for condition in CONDITIONS)
    assert metrics["valid/bridged"] == 1


def test_math_is_scored_in_training_and_evaluation(folders: PairFolders, tmp_path: Path) -> None:
    rows = [
        {"problem": f"What is {n} + 1?", "solution": rf"It is $\boxed{{{n + 1}}}$.", "level": "1"} for n in range(8)
    ]
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "test"):
        (data / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run_job(small_spec(folders, task="math", task_data=str(data), **SIZES), tmp_path / "trial")
    samples, metrics = measured(tmp_path / "trial")
    assert [row["gold"] for row in samples] == [str(n + 1) for n in range(8)]
    assert "accuracy/bridged/1" in metrics


# What the target answers by heart to the questions of the test split, and how that is scored: strictly, flexibly, F1.
KNOWN = {
    "math": [
        (r" Half is $\boxed{0.5}$.", True, True, None),
        (r" $\boxed{(3, 4)}$", True, True, None),
        (" It is 12.", False, True, None),
        (r" $\boxed{8}$", False, False, None),
        (r" $x = \boxed{3}$", True, True, None),
    ],
    "hotpotqa": [
        (" the Eiffel tower.", True, True, 1.0),
        (" Yes", True, True, 1.0),
        (" Curie", False, True, 2 / 3),
        (" 1890", False, False, 0.0),
    ],
}
BY_GROUP = {
    "math": {"Level 1": 1.0, "Level 3": 1 / 3, "Algebra": 1.0, "Number Theory": 0.0},
    "hotpotqa": {"bridge": 1 / 3, "comparison": 1.0, "easy": 1.0, "hard": 0.0},
}


@pytest.mark.parametrize("name", KNOWN)
def test_hand_made_questions_are_scored_as_their_task_does(folders: PairFolders, name: str, tmp_path: Path) -> None:
    task = TASKS.load(name)(data=str(HAND_MADE / name))
    target = shutil.copytree(folders.target, tmp_path / "target")
    known = KNOWN[name]
    memorise(target, {task.prompt(e): answer for e, (answer, *_) in zip(task.test(), known, strict=True)})
    pair = PairFolders(source=folders.source, target=str(target))
    sizes = SIZES | {"num_fewshot": 0, "max_new_tokens": 24, "steps": 0, "decode_aware": False}
    run_job(small_spec(pair, task=name, task_data=str(HAND_MADE / name), **sizes), tmp_path / "trial")
    samples, metrics = measured(tmp_path / "trial")
    assert [row["target_alone_output"].strip() for row in samples] == [answer.strip() for answer, *_ in known]
    fields = ("target_alone_correct", "target_alone_flexible")
    assert [tuple(row[field] for field in fields) for row in samples] == [row[1:3] for row in known]
    assert [row.get("target_alone_f1") for row in samples] == [f1 for *_, f1 in known]
    assert metrics["accuracy/target_alone"] == sum(strict for _, strict, *_ in known) / len(known)
    assert {value: metrics[f"accuracy/target_alone/{value}"] for value in BY_GROUP[name]} == BY_GROUP[name]
    assert {f"accuracy/bridged/{value}" for value in BY_GROUP[name]} <= metrics.keys()
    if name == "hotpotqa":
        assert metrics["f1/target_alone"] == pytest.approx((1 + 1 + 2 / 3) / 4)
