"""Small whole jobs on every kind of task: trained, decode-aware steps included, and measured under all conditions."""

import json
from pathlib import Path
from typing import Any

import pytest

from bridge_common.files import read_json, read_jsonl
from bridge_common.metric_names import CONDITIONS
from ray_bridge.config.task_mapping import known_mapping
from tests.support.local_jobs import run_job, small_spec
from tests.support.model_pairs import PairFolders

FIXTURES = Path(__file__).parents[2] / "data" / "mapped"
SIZES: dict[str, Any] = {
    **{"train_examples": None, "validation_examples": 1, "test_examples": None, "num_fewshot": 1},
    **{"steps": 2, "batch_size": 2, "eval_every": 2, "warmup_steps": 1, "max_new_tokens": 4},
    **{"decode_aware": True, "decode_questions": 2, "decode_samples": 2},
}
LIKELIHOOD = {"arc_challenge": "choice_likelihood", "openbookqa": "letter_likelihood"}


def measured(folder: Path) -> tuple[list[dict[str, Any]], dict[str, float]]:
    return read_jsonl(folder / "samples.jsonl"), read_json(folder / "metrics.json")


@pytest.mark.parametrize("name", ["arc_challenge", "openbookqa", "mmlu_redux", "ceval"])
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
