"""A text ends where its model or its task says so: in every decoder, however often it checks, and in the record."""

import json
from pathlib import Path

import pytest
import torch

from ray_bridge.generation import eager, graphed_batch
from ray_bridge.generation.eager import decode_eager
from ray_bridge.generation.graphed import decode_graphed
from ray_bridge.generation.sampling import Sampling
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.noise import generator
from ray_bridge.tasks.synthetic.task import SyntheticTask
from tests.support.decoding_rows import rows_of
from tests.support.model_pairs import Arch, save_checkpoint
from tests.support.tokenising import token_ids

ARCHITECTURES: tuple[Arch, ...] = ("llama", "mistral", "qwen2", "gpt_neox")
LIMIT = 40


@pytest.fixture(scope="module", params=ARCHITECTURES)
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FrozenLM:
    return FrozenLM.load(str(save_checkpoint(tmp_path_factory.mktemp(request.param), request.param)), dtype="float64")


def draws(sampled: bool) -> Sampling | None:
    return Sampling(temperature=1.0, generators=[generator("d", i) for i in range(6)]) if sampled else None


def unended(lm: FrozenLM, sampled: bool, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Return six rows' tokens up to the limit, as if nothing ended a text."""
    with monkeypatch.context() as patch:
        patch.setattr(lm, "ends", frozenset())
        return decode_eager(lm, rows_of(lm, 6), None, LIMIT, draws(sampled))


def test_the_ends_of_tokenizer_config_and_generation_config_count(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "llama")
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [7, 9]}))
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": 11}))
    lm = FrozenLM.load(str(folder))
    assert lm.ends == {7, 9, 11, lm.tokenizer.eos_token_id}
    assert lm.eos == lm.tokenizer.eos_token_id  # the one that answers are trained to end with


def test_bos_comes_from_the_config_if_the_tokenizer_has_none(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "qwen2")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"bos_token_id": 5}))
    assert FrozenLM.load(str(folder)).bos == 5


@pytest.mark.parametrize("sampled", [False, True])
def test_every_decoder_ends_at_any_of_the_ends(lm: FrozenLM, sampled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = unended(lm, sampled, monkeypatch)
    ends = frozenset({lm.eos, whole[0][5], whole[1][11], whole[2][23]})
    expected = [ids[: next((i for i, t in enumerate(ids) if t in ends), LIMIT) + 1] for ids in whole]
    monkeypatch.setattr(lm, "ends", ends)
    assert decode_eager(lm, rows_of(lm, 6), None, LIMIT, draws(sampled)) == expected
    assert decode_graphed(lm, rows_of(lm, 6), None, LIMIT, draws(sampled)) == expected
    assert min(map(len, expected)) < LIMIT


@pytest.mark.parametrize(
    "every", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(16, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("sampled", [False, True])
def test_every_decoder_ends_at_stop_texts(
    lm: FrozenLM, sampled: bool, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eager, "CHECK_EVERY", every)
    monkeypatch.setattr(graphed_batch, "CHECK_EVERY", every)
    whole = unended(lm, sampled, monkeypatch)
    monkeypatch.setattr(lm, "ends", frozenset())
    texts = [lm.tokenizer.decode(ids, skip_special_tokens=True) for ids in whole]
    stops = [text[len(text) // 2 :][:3].strip() for text in texts[:3]]
    stopped = decode_eager(lm, rows_of(lm, 6), None, LIMIT, draws(sampled), stops)
    assert decode_graphed(lm, rows_of(lm, 6), None, LIMIT, draws(sampled), stops=stops) == stopped
    assert min(map(len, stopped)) < LIMIT
    stopping = Stopping.of(lm, stops)
    for ids, text, kept in zip(whole, texts, stopped, strict=True):
        assert kept == ids[: len(kept)]
        decoded = lm.tokenizer.decode(kept, skip_special_tokens=True)
        if len(kept) < LIMIT:  # the last token completed a stop text
            assert any(stop in decoded for stop in stops)
            assert not any(stop in lm.tokenizer.decode(kept[:-1], skip_special_tokens=True) for stop in stops)
        assert stopping.text(kept) == text[: min((text.find(s) for s in stops if s in text), default=len(text))]


def test_what_stands_after_the_end_is_no_part_of_the_text(lm: FrozenLM) -> None:
    before, after = token_ids(lm.tokenizer, "#### 60"), token_ids(lm.tokenizer, "12 more")
    stopping = Stopping.of(lm, ["\nQuestion:"])
    for end in lm.ends:
        assert stopping.cut([*before, end, *after]) == ([*before, end], True)
        assert stopping.text([*before, end, *after]).strip() == "#### 60"
    assert stopping.cut(before) == (list(before), False)


@pytest.mark.parametrize("opening", ["\n**Question:** Ann has 9", "\n## Question: Ann has 9"])
def test_a_stop_text_in_markdown_ends_decoding_if_it_is_named_with_the_same_verdict(lm: FrozenLM, opening: str) -> None:
    """By itself it does not: scoring alone reads no further, and recorded outputs and tokens stay what they were."""
    task = SyntheticTask(train_examples=4, test_examples=1)
    (example,) = task.test()
    answer = f"so\n#### {example.gold}"
    ids = token_ids(lm.tokenizer, f"{answer}{opening} pens.\n#### 9")
    assert Stopping.of(lm, task.stops).cut(ids) == (list(ids), False)
    named = Stopping.of(lm, (*task.stops, opening.partition("Ann")[0].rstrip(" *")))
    kept, ended = named.cut(ids)
    assert ended
    assert len(kept) < len(ids)
    assert named.text(kept).strip() == answer
    assert task.score(named.text(kept), example) == task.score(named.text(ids), example)
    whole = Stopping.of(lm).text(ids)
    assert task.score(whole, example) == task.score(answer, example)
    assert task.score(whole, example).correct


def test_a_stop_text_of_white_space_needs_something_before_it(lm: FrozenLM) -> None:
    stopping = Stopping.of(lm, ["\n"])
    assert stopping.text(token_ids(lm.tokenizer, "\nParis\nQuestion")).strip() == "Paris"


@pytest.mark.real
@pytest.mark.slow
def test_a_real_model_stops_as_its_own_generate_does(real_model: Path) -> None:
    lm = FrozenLM.load(str(real_model), dtype="float32")
    stops = ["\nQuestion:", "\nQ:"]
    asked = ["What is 3 + 4?", "Tom has 5 apples and eats 2. How many are left?", "How many days has a week?"]
    example = "Question: What is 1 + 1?\nAnswer: 1 + 1 = 2.\n#### 2\n\n"
    rows = [Row(before=(lm.bos,), prompt=token_ids(lm.tokenizer, f"{example}Question: {q}\nAnswer:")) for q in asked]
    decoded = decode_eager(lm, rows, None, 60, stops=stops)
    assert decode_graphed(lm, rows, None, 60, stops=stops) == decoded
    for row, ids in zip(rows, decoded, strict=True):
        given = torch.tensor([row.before + row.prompt])
        own = lm.model.generate(
            given, max_new_tokens=60, do_sample=False, stop_strings=stops, tokenizer=lm.tokenizer, pad_token_id=lm.pad,
            attention_mask=torch.ones_like(given), eos_token_id=sorted(lm.ends),
        )  # fmt: skip
        assert ids == own[0, given.shape[1] :].tolist()
    assert min(map(len, decoded)) < 60
