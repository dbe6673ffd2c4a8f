"""The curriculum of soft_only: which steps see the prompt, and that they do."""

from pathlib import Path

import pytest
import torch

from bridge_common.errors import UserError
from bridge_common.files import read_log
from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.inputs.encoding import Encoder
from ray_bridge.noise import uniform
from ray_bridge.tasks.splits import load_splits
from ray_bridge.training.schedule import prompt_share, sees_prompt, with_prompt
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.model_pairs import PairFolders, frozen


def test_the_share_falls_linearly_to_zero() -> None:
    spec = tiny(layout="soft_only", prompt_share=0.8, steps=1000)
    assert [prompt_share(spec, step) for step in (0, 500, 1000)] == pytest.approx([0.8, 0.4, 0.0])
    seen = [sees_prompt(spec, step) for step in range(1000)]
    for begin in range(0, 1000, 250):
        expected = 250 * 0.8 * (1 - (begin + 125) / 1000)
        assert sum(seen[begin : begin + 250]) == pytest.approx(expected, abs=30)  # four standard deviations
    assert seen == [sees_prompt(spec, step) for step in range(1000)]
    assert seen != [sees_prompt(spec.replace(seed=1), step) for step in range(1000)]


def test_a_step_s_draw_is_of_its_seed_and_number_and_below_the_share() -> None:
    spec = tiny(layout="soft_only", prompt_share=0.5, steps=100, seed=3)
    draws = [uniform(("prompt", 3, step)) for step in range(100)]
    assert [sees_prompt(spec, step) for step in range(100)] == [
        draw < 0.5 * (1 - step / 100) for step, draw in enumerate(draws)
    ]
    assert not sees_prompt(spec.replace(prompt_share=draws[0]), 0), "a draw that equals the share is not below it"


def test_the_share_of_a_job_of_one_step_or_none() -> None:
    spec = tiny(layout="soft_only", prompt_share=0.8, steps=1)
    assert [prompt_share(spec, step) for step in (0, 1, 2)] == pytest.approx([0.8, 0.0, 0.0])
    assert prompt_share(spec.replace(steps=0), 0) == pytest.approx(0.8)


def test_without_a_share_no_step_sees_the_prompt() -> None:
    spec = tiny(layout="soft_only", steps=50)
    assert not any(sees_prompt(spec, step) for step in range(50))


def test_only_soft_only_takes_a_prompt_share() -> None:
    with pytest.raises(UserError, match="soft_only"):
        tiny(prompt_share=0.5)


def test_a_step_with_the_prompt_reads_what_soft_plus_text_reads() -> None:
    source, target = frozen("mistral", 48), frozen("llama", 32)
    sizes = {"train_examples": 3, "validation_examples": 2, "test_examples": 2}
    spec = tiny(layout="soft_only", prompt_share=0.5, **sizes)
    splits = load_splits(spec)
    instructed = Encoder(spec, splits.task, "", source, target)(splits.train)
    plain = Encoder(tiny(**sizes), splits.task, "", source, target)(splits.train)
    assert [item.row for item in with_prompt(instructed)] == [item.row for item in plain]
    assert with_prompt(plain) == list(plain), "which read the prompt as they are"
    for short, whole in zip(instructed, plain, strict=True):
        assert short.row != whole.row
        assert short.row.answer == whole.row.answer
        assert short.text_row == whole.text_row


def test_a_job_trains_on_longer_rows_where_a_step_sees_the_prompt(folders: PairFolders, tmp_path: Path) -> None:
    spec = tiny(
        **{"source": folders.source, "target": folders.target, "layout": "soft_only", "prompt_share": 1.0, "steps": 6},
        **{"soft_tokens": 2, "hidden_size": 16, "num_heads": 2, "depth": 1, "batch_size": 2, "eval_every": 100},
        **{"train_examples": 8, "validation_examples": 2, "test_examples": 2, "max_new_tokens": 2},
        **{"decode_aware": False, "eval_dtype": "as_trained"},
    )
    torch.set_num_threads(1)
    trainer = Trainer(spec, tiny_run(workers=1), tmp_path, LocalSession(tmp_path), None)
    trainer.run()
    values = [event["values"] for event in read_log(tmp_path / "events.jsonl") if event["kind"] == "metrics"]
    trained = [v["tokens_per_second"] * v["seconds_per_step"] for v in values if "seconds_per_step" in v]
    expected = []
    for trainer.step in range(6):
        items = trainer.pair.encoder([trainer.splits.train[i] for i in trainer._batch(trainer.step)])
        rows = [item.row for item in (with_prompt(items) if sees_prompt(spec, trainer.step) else items)]
        expected.append(sum(len(row.before) + 2 + len(row.prompt) + len(row.answer) for row in rows))
    assert 0 < sum(sees_prompt(spec, step) for step in range(6)) < 6
    assert trained == pytest.approx(expected, abs=1)
