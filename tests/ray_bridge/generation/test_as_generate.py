"""Text in both prompt formats, from every decoder and architecture, is that of the model's own `generate`.

With the same ends and stop texts, with and without soft tokens, in a batch, after a header that is read once, with
transformers' layers and with fused ones where there are any.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from ray_bridge.config.presets import tiny
from ray_bridge.generation.eager import decode_eager
from ray_bridge.generation.graphed import decode_graphed
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inputs.encoding import Encoded, Encoder
from ray_bridge.inputs.layout import assemble
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.models.windows import attends_fully
from ray_bridge.tasks.splits import Splits
from ray_bridge.tasks.task import Example
from tests.support.architectures import exact_lm
from tests.support.chat_tokenizers import chat_tokenizer
from tests.support.decoding_rows import TASK, soft_of

STYLES = {
    **dict.fromkeys(("llama", "llama_tied"), "llama"),
    **dict.fromkeys(("mistral", "mistral_windowed"), "mistral"),
    **dict.fromkeys(("qwen2", "qwen3"), "qwen"),
    **dict.fromkeys(("gemma2", "gemma2_windowed", "gemma3"), "gemma"),
    "phi3": "phi",
}
Format = Literal["raw", "chat"]
FORMATS: tuple[Format, ...] = ("raw", "chat")
DECODERS: dict[str, Callable[..., list[list[int]]]] = {"eager": decode_eager, "graphed": decode_graphed}
FAST = ("llama", "mistral_windowed", "gemma3")  # `make fast` takes one of each kind
LIMIT = 32
LONGEST = 2048


def model(name: str) -> FrozenLM:
    tokenizer = chat_tokenizer(STYLES[name])
    ids = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    changes = {"sliding_window": 4096} if name == "gemma2" else {}  # as the real one: longer than these texts
    lm = exact_lm(name.replace("gemma2_windowed", "gemma2"), vocab_size=len(tokenizer), **ids, **changes)
    return FrozenLM(lm.model, tokenizer, name)


def items_of(lm: FrozenLM, prompt_format: Format, examples: Sequence[Example], exemplars: int = 2) -> list[Encoded]:
    spec = tiny(prompt_format=prompt_format, num_fewshot=exemplars, soft_position="before_question")
    splits = Splits.of(TASK, TASK.train()[:exemplars])
    return Encoder(spec, TASK, splits.header, lm, lm, exemplars=splits.exemplars)(examples)


def own(lm: FrozenLM, row: Row, soft: SoftContext | None, stops: Sequence[str], limit: int = LIMIT) -> list[int]:
    """Return the ids that the model's own `generate` adds to a row."""
    given: dict[str, Any] = {"input_ids": torch.tensor([row.before + row.prompt])}
    if soft is not None:
        given = {"inputs_embeds": assemble(lm, [row], soft, pad="right").embeds}
    (first,) = given.values()
    length = first.shape[1] if soft is None else 0
    if stops:
        given |= {"stop_strings": list(stops), "tokenizer": lm.tokenizer}
    made = lm.model.generate(
        **given,
        attention_mask=torch.ones(first.shape[:2], dtype=torch.long),
        max_new_tokens=limit,
        do_sample=False,
        eos_token_id=sorted(lm.ends) or None,
        pad_token_id=lm.pad,
    )
    ids: list[int] = made[0, length:].tolist()
    return ids


def decoders_of(lm: FrozenLM) -> tuple[str, ...]:
    """Return the decoders that take a model: graphs need fused layers where a window is shorter than the text."""
    return ("eager", "graphed") if lm.body is not None or attends_fully(lm.config, LONGEST) else ("eager",)


def stop_text(texts: Sequence[str]) -> str:
    """Return a few characters from the second half of one of the texts."""
    halves = [text[len(text) // 2 :] for text in texts]
    pieces = (half[at : at + size] for size in (3, 2, 1) for half in halves for at in range(len(half)))
    return next(piece for piece in pieces if piece.isascii() and piece.strip())


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in STYLES]
)
def plain(request: pytest.FixtureRequest) -> FrozenLM:
    return model(request.param)


@pytest.mark.parametrize("prompt_format", FORMATS)
@pytest.mark.parametrize("bridged", [pytest.param(False, marks=pytest.mark.slow), True])
def test_text_is_that_of_generate(
    plain: FrozenLM, prompt_format: Format, bridged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = plain.reading(prompt_format)
    items = items_of(lm, prompt_format, TASK.test()[:3])
    rows = [(item.row if bridged else item.text_row).without_answer() for item in items]
    soft = soft_of(lm, len(rows)) if bridged else None
    ends = lm.ends
    monkeypatch.setattr(lm, "ends", frozenset())
    whole = decode_eager(lm, rows, soft, LIMIT)
    stops = [stop_text([lm.tokenizer.decode(ids, skip_special_tokens=True) for ids in whole[1:]])]
    monkeypatch.setattr(lm, "ends", ends | {whole[0][len(whole[0]) // 2]})
    expected = [own(lm, row, None if soft is None else soft.rows([i]), stops) for i, row in enumerate(rows)]
    assert sum(len(ids) < LIMIT for ids in expected) > 1, "an end and a stop text were reached"
    fused = model(plain.name).fuse().reading(prompt_format)
    assert ("graphed" in decoders_of(fused)) == (plain.name != "gemma2_windowed")
    monkeypatch.setattr(fused, "ends", lm.ends)
    stopping = Stopping.of(lm, stops)
    for each in (lm, fused):
        for name in decoders_of(each):
            decode = DECODERS[name]
            made = decode(each, rows, soft, LIMIT, stops=stops)
            assert [stopping.text(ids) for ids in made] == [stopping.text(ids) for ids in expected], name
            assert made == expected, name


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("exemplars", [0, 2])
def test_a_real_model_chats_as_its_own_generate_does(real_model: Path, exemplars: int) -> None:
    lm = FrozenLM.load(str(real_model), dtype="float32").reading("chat")
    assert lm.tokenizer.convert_ids_to_tokens(lm.eos) == "<|im_end|>"
    examples = [
        Example(id=str(i), index=i, question=question, answer="#### 1", gold="1")
        for i, question in enumerate(["What is 3 + 4?", "Tom has 5 apples and eats 2. How many are left?"])
    ]
    rows = [item.text_row.without_answer() for item in items_of(lm, "chat", examples, exemplars)]
    decoded = decode_eager(lm, rows, None, 60, stops=TASK.stops)
    assert decode_graphed(lm, rows, None, 60, stops=TASK.stops) == decoded
    for example, row, ids in zip(examples, rows, decoded, strict=True):
        turns = [turn for e in TASK.train()[:exemplars] for turn in (("user", TASK.prompt(e)), ("assistant", e.answer))]
        conversation = [{"role": r, "content": c} for r, c in [*turns, ("user", TASK.prompt(example))]]
        asked = lm.tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=False)
        assert tuple(asked) == row.before + row.prompt
        assert ids == own(lm, row, None, TASK.stops, 60)
    assert min(map(len, decoded)) < 60
    assert lm.eos in {ids[-1] for ids in decoded}
