"""The presets: the fields that they set, with the paper's numbers, and one line for whatever is set wrongly."""

from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from bridge_common.files import write_text
from ray_bridge.config.fingerprint import digest, fingerprint, folder_digest
from ray_bridge.config.presets import paper, paper_run, tiny, tiny_run
from ray_bridge.config.run_spec import RunSpec, check_run
from ray_bridge.config.spec import JobSpec

PAPER: dict[str, Any] = {
    "source": "mistralai/Mistral-7B-Instruct-v0.3",
    "target": "meta-llama/Llama-3.1-8B-Instruct",
    "source_layer": 24,
    "model_dtype": "bfloat16",
    "task": "gsm8k",
    "num_fewshot": 8,
    "validation_examples": 200,
    "soft_tokens": 64,
    "hidden_size": 1024,
    "depth": 6,
    "num_heads": 16,
    "max_new_tokens": 256,
    "steps": 2000,
    "batch_size": 8,
    "learning_rate": 1e-4,
    "warmup_steps": 100,
    "eval_every": 200,
}


def test_the_papers_job_has_the_papers_numbers() -> None:
    assert {name: value for name, value in paper().flat().items() if name in PAPER} == PAPER


def test_runs_of_the_presets() -> None:
    assert tiny_run() == RunSpec(workers=2, eval_batch_size=64, checkpoint_every=100)
    gpus = {"workers": 4, "use_gpu": True, "cpus_per_worker": 4}
    assert paper_run() == RunSpec(**gpus, eval_batch_size=36, checkpoint_every=200)
    assert tiny_run(workers=1).workers == 1


def test_an_unknown_field_suggests_up_to_three_close_ones() -> None:
    with pytest.raises(UserError, match=r"^unknown field 'eval_ever': did you mean eval_every or eval_dtype\?$"):
        tiny(eval_ever=3)
    with pytest.raises(UserError, match=r"^unknown field 'zzzz': `python -m cluster fields` lists them$"):
        tiny(zzzz=3)
    with pytest.raises(UserError) as error:
        tiny(source_revisio="x")
    assert str(error.value).count(" or ") <= 2
    assert "source_revision or " in str(error.value)


def test_a_batch_divides_among_the_workers() -> None:
    check_run(tiny(batch_size=8), tiny_run(workers=2))
    with pytest.raises(UserError, match="does not divide among 3 workers"):
        check_run(tiny(batch_size=8), tiny_run(workers=3))


def data(folder: Path, text: str) -> str:
    write_text(folder / "train.jsonl", text)
    return str(folder)


def test_data_are_identified_by_their_content_and_not_by_their_place(tmp_path: Path) -> None:
    one, same, other = (data(tmp_path / name, text) for name, text in (("a", "1"), ("b", "1"), ("c", "2")))
    marks = [fingerprint(tiny(task="gsm8k", task_data=folder)) for folder in (one, same, other)]
    assert marks[0] == marks[1] != marks[2]
    assert fingerprint(tiny(task="gsm8k")) not in marks


def test_contents_that_were_read_are_not_read_again(tmp_path: Path) -> None:
    """A plan of thousands of trials reads each checkpoint and each data set once."""
    spec = tiny(task="gsm8k", task_data=data(tmp_path / "a", "1"))
    contents: dict[str, str] = {}
    first = fingerprint(spec, contents)
    assert f"data {tmp_path / 'a'}" in contents
    data(tmp_path / "a", "2")
    assert fingerprint(spec, contents) == first
    assert fingerprint(spec) != first


def test_a_digest_has_sixteen_digits_unless_asked_otherwise() -> None:
    assert len(digest({"a": 1})) == 16
    assert len(digest({"a": 1}, 6)) == 6
    assert digest({"a": 1}) == digest({"a": 1}) != digest({"a": 2})
    assert len(fingerprint(tiny())) == 16


def test_hidden_files_and_caches_are_no_content(tmp_path: Path) -> None:
    data(tmp_path, "1")
    before = folder_digest(tmp_path)
    write_text(tmp_path / "sub" / ".hidden", "1")
    write_text(tmp_path / "sub" / "__pycache__" / "x.pyc", "1")
    assert folder_digest(tmp_path) == before
    write_text(tmp_path / "sub" / "seen", "1")
    assert folder_digest(tmp_path) != before


def test_settings_are_kept_by_a_change_of_neither_task_nor_bridge() -> None:
    spec = tiny()
    assert spec.replace(steps=7) == JobSpec(**{**spec.model_dump(), "steps": 7})
    assert spec.replace(task="synthetic") == spec
