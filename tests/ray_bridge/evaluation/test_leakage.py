"""Data never leaks: a bridge that was trained on other questions' answers must not help on the test split."""

from pathlib import Path

import pytest

from bridge_common.files import read_log, write_jsonl
from ray_bridge.config.checkpoint_names import EMBEDDED
from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.tasks.synthetic.task import SyntheticTask
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer

needs_pair = pytest.mark.skipif(
    not all((folder / "model.safetensors").is_file() for folder in EMBEDDED.values()),
    reason="the embedded pair's weights are not there: make them with python -m ray_bridge.embedded_pair.recipe.train",
)


def save_shuffled(folder: Path, train: int, test: int) -> None:
    """Synthetic problems in GSM8K's files; in training each question has the answer of another."""
    task = SyntheticTask(train_examples=train, test_examples=test)
    learned, asked = task.train(), task.test()
    answers = [learned[(i + train // 2) % train] for i in range(train)]
    assert sum(a.gold == e.gold for a, e in zip(answers, learned, strict=True)) < 0.1 * train
    write_jsonl(
        folder / "train.jsonl",
        [{"question": e.question, "answer": a.answer} for e, a in zip(learned, answers, strict=True)],
    )
    write_jsonl(folder / "test.jsonl", [{"question": e.question, "answer": e.answer} for e in asked])


@pytest.mark.slow
@needs_pair
def test_shuffled_answers_in_training_do_not_help_on_test(tmp_path: Path) -> None:
    save_shuffled(tmp_path, train=600, test=120)
    spec = tiny(
        task="gsm8k",
        task_data=str(tmp_path),
        train_examples=None,
        test_examples=None,
        validation_examples=16,
        steps=60,
        eval_every=30,
        eval_dtype="as_trained",
    )
    folder = tmp_path / "trial"
    metrics = Trainer(spec, tiny_run(workers=1), folder, LocalSession(folder), None).run()["metrics"]
    assert metrics["n"] == 120
    assert metrics["accuracy/target_alone"] > 0.4  # it reads numerals, so there is something to lose
    assert metrics["accuracy/bridged"] <= metrics["accuracy/target_alone"]
    records = [row["values"] for row in read_log(folder / "events.jsonl") if row["kind"] == "metrics"]
    losses = [row["loss/total"] for row in records if "loss/total" in row]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])  # it did learn what it was given
