"""Whole small jobs whose models read conversations: trained, measured under all conditions, loaded and asked again."""

from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from bridge_common.files import read_json, read_jsonl, read_log, write_json
from bridge_common.metric_names import CONDITIONS
from ray_bridge import Translator, fingerprint, tiny, tiny_run
from ray_bridge.generation.stopping import Stopping
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.splits import load_splits
from ray_bridge.tasks.task import Example, Task, with_written_answer
from tests.support.chat_tokenizers import save_chat_pair
from tests.support.local_jobs import run_job, small_spec
from tests.support.model_pairs import PairFolders

JOB: dict[str, Any] = {
    **{
        "prompt_format": "chat",
        "num_fewshot": 2,
        "steps": 4,
        "eval_every": 2,
        "test_examples": 6,
        "max_new_tokens": 10,
    },
    **{"decode_aware": True, "decode_questions": 2, "decode_samples": 2},
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "first": {},
    "before_question": {"soft_position": "before_question", "kl_alignment": False},
    "soft_only": {"layout": "soft_only", "prompt_share": 0.5},
    "residual": {"injection": "residual", "soft_position": "before_question"},
    "adapter": {"injection": "adapter", "bridge": "resampler", "geometry_projection": False},
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> PairFolders:
    return save_chat_pair(tmp_path_factory.mktemp("chat"), "gemma", "llama")


def generated(lm: FrozenLM, task: Task, exemplars: list[Example], example: Example, limit: int) -> str:
    """Return what a model's own `generate` answers after its own template, with the job's ends."""
    turns = [turn for e in exemplars for turn in (("user", task.prompt(e)), ("assistant", e.answer))]
    conversation = [{"role": role, "content": content} for role, content in [*turns, ("user", task.prompt(example))]]
    given = lm.tokenizer.apply_chat_template(
        conversation, add_generation_prompt=True, return_tensors="pt", return_dict=True, date_string="26 Jul 2024"
    )
    own = lm.model.generate(
        **given, max_new_tokens=limit, do_sample=False, eos_token_id=sorted(lm.ends), pad_token_id=lm.pad
    )
    return Stopping.of(lm, task.stops).text(own[0, given["input_ids"].shape[1] :].tolist())


QUICK = ("first", "residual")


@pytest.mark.parametrize(
    "layout", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LAYOUTS]
)
def test_a_job_of_conversations(pair: PairFolders, layout: str, tmp_path: Path) -> None:
    spec = small_spec(pair, **JOB, **LAYOUTS[layout])
    result = run_job(spec, tmp_path)
    samples = read_jsonl(tmp_path / "samples.jsonl")
    assert all(f"{condition}_output" in row for row in samples for condition in CONDITIONS)
    losses = [row["values"] for row in read_log(tmp_path / "events.jsonl") if row["kind"] == "metrics"]
    assert any("loss/answer_kl" in values for values in losses)
    assert result["metrics"]["n"] == 6
    splits = load_splits(spec)
    task, shown = splits.task, list(splits.exemplars)
    models = {"target_alone": pair.target, "source_alone": pair.source}
    for condition, place in models.items():
        lm = FrozenLM.load(place, dtype="float64").reading("chat")
        for row, example in zip(samples, splits.test, strict=True):
            assert row[f"{condition}_output"] == generated(lm, task, shown, example, spec.max_new_tokens)
    target = FrozenLM.load(pair.target, dtype="float64").reading("chat")
    written = [with_written_answer(e, e.answer) for e in shown]
    for row, example in zip(samples, splits.test, strict=True):
        asked = with_written_answer(example, task.answer_text(row["source_alone_output"], example).strip())
        assert row["text_bridge_output"] == generated(target, task, written, asked, spec.max_new_tokens)


def test_a_translator_of_conversations_gives_its_recorded_answers(pair: PairFolders, tmp_path: Path) -> None:
    spec = small_spec(pair, **JOB)
    folder = tmp_path / "campaign" / "trials" / "full-0"
    run_job(spec, folder)
    write_json(folder / "spec.json", {"variant": "full", "seed": 0, "fingerprint": "0" * 16, "spec": spec.model_dump()})
    write_json(folder / "result.json", {"metrics": read_json(folder / "metrics.json")})
    rows = read_jsonl(folder / "samples.jsonl")
    translator = Translator.load(folder, device="cpu")
    answers = translator.generate([row["question"] for row in rows])
    assert [answer.text for answer in answers] == [row["bridged_output"] for row in rows]
    assert translator.pair.target.chat is not None


def test_the_format_is_part_of_the_fingerprint_unless_it_is_raw(pair: PairFolders) -> None:
    raw, chat = small_spec(pair), small_spec(pair, prompt_format="chat")
    assert fingerprint(chat) != fingerprint(raw) == fingerprint(small_spec(pair, prompt_format="raw"))


def test_the_embedded_pair_does_not_chat() -> None:
    from tune_spaces import Campaign, phase1

    base = tiny(prompt_format="chat")
    with pytest.raises(UserError, match="embedded:source has no chat template: use --set prompt_format=raw"):
        Campaign(phase1(base), base, tiny_run(), storage="nowhere")
