"""Prompts as conversations: the ids of each model's own chat template, with soft tokens inside the user's turn."""

import copy
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import torch

from bridge_common.errors import UserError
from ray_bridge.config.presets import tiny
from ray_bridge.config.spec import JobSpec
from ray_bridge.inputs.encoding import Encoder
from ray_bridge.inputs.layout import assemble
from ray_bridge.inputs.rows import MIN_HEADER, Row, shared_header
from ray_bridge.models.chat_template import ChatTemplate, Turn
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.splits import Splits
from ray_bridge.tasks.task import Example, with_written_answer
from tests.support.chat_tokenizers import STYLES, chat_lm, chat_tokenizer
from tests.support.decoding_rows import TASK, soft_of
from tests.support.model_pairs import frozen
from tests.support.tokenising import token_ids

END = {"mistral": "</s>", "llama": "<|eot_id|>", "gemma": "<end_of_turn>", "deepseek": "<｜end▁of▁sentence｜>"}
END |= dict.fromkeys(("qwen", "thinking", "smollm"), "<|im_end|>") | dict.fromkeys(("phi", "dated"), "<|end|>")
USER = {
    "llama": "user<|end_header_id|>\n\n",
    "mistral": "[INST]",
    "gemma": "<start_of_turn>user\n",
    "dated": "<|user|>",
}
USER |= dict.fromkeys(("qwen", "thinking", "smollm"), "<|im_start|>user\n") | {"deepseek": "<｜User｜>"}
USER |= dict.fromkeys(("phi", "dated"), "<|user|>")  # Phi-3's token takes the new line after it
EXAMPLES = TASK.test()[:4]


def encoder_of(style: str, exemplars: int = 0, **changes: Any) -> Encoder:
    spec = tiny(prompt_format="chat", num_fewshot=exemplars, **changes)
    splits = Splits.of(TASK, TASK.train()[:exemplars])
    source, target = chat_lm("mistral" if style == "llama" else "llama", 48), chat_lm(style)
    return Encoder(
        spec,
        TASK,
        splits.header,
        source,
        target,
        written_header=splits.written_header,
        exemplars=splits.exemplars,
    )


def messages(example: Example, exemplars: int, written: str | None = None) -> list[dict[str, str]]:
    shown = TASK.train()[:exemplars]
    if written is not None:
        shown, example = [with_written_answer(e, e.answer) for e in shown], with_written_answer(example, written)
    turns = [(("user", TASK.prompt(e)), ("assistant", e.answer)) for e in shown]
    pairs = [message for turn in turns for message in turn] + [("user", TASK.prompt(example))]
    return [{"role": role, "content": content} for role, content in pairs]


def own_ids(lm: FrozenLM, conversation: list[dict[str, str]], day: datetime = datetime(2024, 7, 26)) -> tuple[int, ...]:
    """Return the ids of a model's own template, on a day that it may write; thoughts that it opens are closed."""
    text = lm.tokenizer.apply_chat_template(
        conversation,
        add_generation_prompt=conversation[-1]["role"] == "user",
        tokenize=False,
        enable_thinking=False,
        date_string=day.strftime("%d %b %Y"),
        strftime_now=day.strftime,
    )
    text += "\n</think>\n\n" if text.endswith("<think>\n") else ""
    return tuple(lm.tokenizer(text, add_special_tokens=False)["input_ids"])


def ids_of(row: Row) -> tuple[int, ...]:
    return row.before + row.prompt


def decoded(lm: FrozenLM, ids: tuple[int, ...]) -> str:
    return str(lm.tokenizer.decode(ids, clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("exemplars", [0, 2])
@pytest.mark.parametrize("style", STYLES)
def test_every_reader_gets_the_text_of_its_own_template(style: str, exemplars: int) -> None:
    encoder = encoder_of(style, exemplars)
    source, target = encoder.source, encoder.target
    for item in encoder(EXAMPLES):
        asked = messages(item.example, exemplars)
        assert ids_of(item.row) == ids_of(item.text_row) == own_ids(target, asked)
        assert item.source_ids == ids_of(encoder.source_row(item)) == own_ids(source, asked)
        bridged = encoder.text_bridge_row(item.example, "it is 7\n#### 7")
        assert ids_of(bridged) == own_ids(target, messages(item.example, exemplars, "it is 7\n#### 7"))
        assert ids_of(item.row)[:2] != (target.bos, target.bos)


@pytest.mark.parametrize("exemplars", [0, 2])
@pytest.mark.parametrize("style", STYLES)
def test_the_answer_ends_with_the_end_of_the_assistant_s_turn(style: str, exemplars: int) -> None:
    encoder = encoder_of(style, exemplars)
    target = encoder.target
    assert target.tokenizer.convert_ids_to_tokens(target.eos) == END[style]
    assert target.eos in target.ends
    for item in encoder(EXAMPLES):
        assert item.row.answer == item.text_row.answer
        assert item.row.answer[-1] == target.eos
        text = decoded(target, item.row.answer[:-1])
        assert text.strip() == item.example.answer
        whole = [*messages(item.example, exemplars), {"role": "assistant", "content": item.example.answer}]
        if style != "deepseek":  # which asks for thoughts that an answered turn does not have
            own = target.tokenizer.apply_chat_template(
                whole,
                tokenize=True,
                return_dict=False,
                date_string="26 Jul 2024",
                strftime_now=datetime(2024, 7, 26).strftime,
            )
            row = ids_of(item.row) + item.row.answer
            assert tuple(own)[: len(row)] == row


@pytest.mark.parametrize("position", ["first", "before_question"])
@pytest.mark.parametrize("exemplars", [0, 2])
@pytest.mark.parametrize("style", STYLES)
def test_soft_tokens_stand_inside_the_user_s_turn(style: str, exemplars: int, position: Any) -> None:
    encoder = encoder_of(style, exemplars, soft_position=position)
    target = encoder.target
    items = encoder(EXAMPLES)
    for item in items:
        first = TASK.train()[0] if exemplars and position == "first" else item.example
        assert decoded(target, item.row.before).endswith(USER[style])
        assert decoded(target, item.row.prompt).strip().startswith(TASK.prompt(first))
    rows, headers = [item.row for item in items], {item.row.header for item in items}
    assert len(headers) == 1
    if position == "before_question" or not exemplars:
        assert len(rows[0].before) == rows[0].header
    if position == "before_question" and exemplars:  # keys and values of the exemplars are computed once
        assert shared_header(rows, soft=True) == rows[0].before
    if exemplars:
        assert len(shared_header([item.text_row for item in items], soft=False)) == rows[0].header
    batch = assemble(target, rows, soft_of(target, len(rows)), pad="right")
    for i, row in enumerate(rows):
        assert int(batch.soft_start[i]) == len(row.before)
        assert torch.equal(batch.embeds[i, len(row.before)], soft_of(target, len(rows)).tokens[i, 0])


@pytest.mark.parametrize("exemplars", [0, 2])
@pytest.mark.parametrize("style", STYLES)
def test_the_question_is_known_in_both_conversations(style: str, exemplars: int) -> None:
    encoder = encoder_of(style, exemplars, injection="residual", soft_position="before_question")
    source, target = encoder.source, encoder.target
    for item in encoder(EXAMPLES):
        question = item.example.question
        assert decoded(source, item.source_ids[slice(*item.question_span)]).strip() == question
        of_target = item.row.prompt[slice(*item.row.span)]
        assert decoded(target, of_target).strip() == question
        assert item.alignment is not None
        assert ids_of(item.row)[1 + item.alignment.tokens[0] :][: len(item.alignment.tokens)] == of_target
        sums = torch.zeros(len(item.alignment.tokens)).index_add(
            0, torch.from_numpy(item.alignment.row).long(), torch.from_numpy(item.alignment.share)
        )
        torch.testing.assert_close(sums, torch.ones_like(sums))
        assert item.alignment.bytes.sum() == len(question.encode())


@pytest.mark.parametrize("style", STYLES)
def test_soft_only_puts_the_instruction_into_the_user_s_turn(style: str) -> None:
    encoder = encoder_of(style, 2, layout="soft_only", prompt_share=0.5)
    for item in encoder(EXAMPLES):
        assert ids_of(item.row) == own_ids(encoder.target, [{"role": "user", "content": TASK.instruction}])
        assert decoded(encoder.target, item.row.before).endswith(USER[style])
        assert item.row.answer == item.text_row.answer
        assert item.prompted_row is not None
        assert ids_of(item.prompted_row) == own_ids(encoder.target, messages(item.example, 2))


@pytest.mark.parametrize("style", ["llama", "dated"])
def test_a_template_writes_the_same_date_on_every_day(style: str) -> None:
    lm, conversation = chat_lm(style), messages(EXAMPLES[0], 0)
    (item, *_) = encoder_of(style)(EXAMPLES)
    assert ids_of(item.row) == own_ids(lm, conversation, datetime(2024, 7, 26))
    assert ids_of(item.row) != own_ids(lm, conversation, datetime(2031, 1, 1))


def test_raw_is_the_default_and_another_view_of_the_same_weights() -> None:
    lm = frozen("llama", 32)
    assert JobSpec().prompt_format == "raw"
    assert lm.reading("raw") is lm
    chat = chat_lm("qwen")
    raw = chat.reading("raw")
    assert (raw.model, raw.chat) == (chat.model, None)
    assert (raw.eos, raw.ends) == (raw.tokenizer.eos_token_id, frozenset({raw.tokenizer.eos_token_id}))
    gemma = chat_lm("gemma")
    assert gemma.reading("raw").eos != gemma.eos


def test_a_model_without_a_chat_template_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"llama has no chat template: use --set prompt_format=raw, or") as refused:
        frozen("llama", 32).reading("chat")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('this model does not chat\nat all') }}",
        "{{ messages[0]['content'] }}",
        "{{ messages[7]['content'] + 'x' }}",
        "{% for",
    ],
)
def test_a_template_that_writes_no_conversation_is_refused_in_one_line(template: str) -> None:
    tokenizer = copy.deepcopy(chat_tokenizer("llama"))
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=r"its chat template .* prompt_format=raw") as refused:
        ChatTemplate(tokenizer, "model")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("end", ["\n\n", ": "])
def test_an_answer_follows_the_prompt_s_own_ids(end: str) -> None:
    """GPT-2's rule reads white space at the end of a text as one token, but not before a word."""
    tokenizer = copy.deepcopy(chat_tokenizer("smollm"))
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant\n' }}", f"assistant{end}' }}}}")
    lm = FrozenLM(chat_lm("smollm").model, tokenizer, "model").reading("chat")
    (item, *_) = Encoder(tiny(prompt_format="chat"), TASK, "", lm, lm)(EXAMPLES)
    assert ids_of(item.row) == own_ids(lm, messages(item.example, 0))
    assert item.row.answer[:-1] == token_ids(tokenizer, item.example.answer)


def test_a_token_that_would_hold_the_prompt_s_end_and_the_answer_s_beginning_is_not_taken() -> None:
    """Mistral's rule reads a space with the word after it; generation begins after the prompt's own ids."""
    tokenizer = copy.deepcopy(chat_tokenizer("mistral"))
    tokenizer.chat_template += "{%- if add_generation_prompt %}{{- ' So: ' }}{%- endif %}"
    lm = FrozenLM(chat_lm("mistral").model, tokenizer, "model").reading("chat")
    (item, *_) = Encoder(tiny(prompt_format="chat"), TASK, "", lm, lm)(EXAMPLES)
    assert ids_of(item.row) == own_ids(lm, messages(item.example, 0))
    assert item.row.answer[:-1] == token_ids(tokenizer, item.example.answer)


def test_exemplars_that_depend_on_the_question_are_refused_in_one_line() -> None:
    tokenizer = copy.deepcopy(chat_tokenizer("llama"))
    tokenizer.chat_template = "{{ messages[-1]['content'] | length }}" + tokenizer.chat_template
    lm = FrozenLM(chat_lm("llama").model, tokenizer, "model").reading("chat")
    shown = TASK.train()[:1]
    encoder = Encoder(tiny(prompt_format="chat"), TASK, TASK.header(shown), lm, lm, exemplars=shown)
    with pytest.raises(UserError, match="use num_fewshot=0 or prompt_format=raw"):
        encoder(EXAMPLES)


def test_a_question_that_the_template_writes_too_is_found_where_the_user_asks_it() -> None:
    encoder = encoder_of("llama", 1, injection="residual")
    for question in ("assistant", " user"):
        (item,) = encoder([replace(EXAMPLES[0], id=question, question=question)])
        before = decoded(encoder.target, item.row.prompt[: item.row.span[0]])
        assert before.endswith("Question:") or before.endswith("Question: ")
        assert decoded(encoder.target, item.row.prompt[slice(*item.row.span)]).strip() == question.strip()


def test_a_template_that_takes_one_exchange_alone_is_refused_with_the_remedy() -> None:
    tokenizer = copy.deepcopy(chat_tokenizer("llama"))
    tokenizer.chat_template = "{% if messages | length > 2 %}{{ raise_exception('one turn') }}{% endif %}" + str(
        tokenizer.chat_template
    )
    chat = ChatTemplate(tokenizer, "model")
    assert "3 + 4" in chat.question([], "3 + 4")
    with pytest.raises(UserError, match=r"\(one turn\); use num_fewshot=0 or prompt_format=raw"):
        chat.question([Turn(user="1 + 1", assistant="2")], "3 + 4")


def test_a_template_that_changes_what_a_user_says_is_refused_in_one_line() -> None:
    tokenizer = copy.deepcopy(chat_tokenizer("llama"))
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "message['content'] | trim", "message['content'] | replace(' ', '_')"
    )
    lm = FrozenLM(chat_lm("llama").model, tokenizer, "model").reading("chat")
    with pytest.raises(UserError, match=r"model: its chat template changes what a user says \('.*prompt_format=raw"):
        Encoder(tiny(prompt_format="chat"), TASK, "", lm, lm)(EXAMPLES)


def test_thoughts_that_a_template_opens_whatever_it_is_told_are_closed() -> None:
    chat = ChatTemplate(chat_tokenizer("deepseek"), "model")
    asked = chat.question([], "3 + 4")
    assert asked.endswith("<｜Assistant｜><think>\n\n</think>\n\n")
    assert chat.answered([], "3 + 4", "7") == asked + "7"
    assert "".join(chat.around_question([])) == asked.replace("3 + 4", "")
    assert "</think>" not in ChatTemplate(chat_tokenizer("mistral"), "model").question([], "what is <think>")


def test_a_prompt_that_is_its_header_alone_is_not_shared() -> None:
    """Its answer's first token is predicted from the header's last position, which a shared header does not give."""
    ids = tuple(range(MIN_HEADER))
    alone, longer = (Row(before=(), prompt=prompt, answer=(7,), header=MIN_HEADER) for prompt in (ids, (*ids, 5)))
    assert shared_header([longer, longer], soft=False) == ids
    assert shared_header([longer, alone], soft=False) == ()
