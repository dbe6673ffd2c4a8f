"""The one sequence layout, on real checkpoints of several architectures."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge_common.errors import UserError
from ray_bridge.config.presets import tiny
from ray_bridge.generation.generate import decode_rows
from ray_bridge.generation.sampling import Sampling
from ray_bridge.inputs.encoding import Encoder
from ray_bridge.inputs.layout import IGNORED, answer_row, assemble
from ray_bridge.models.frozen_lm import FrozenLM, count_positions
from ray_bridge.noise import generator
from tests.support.decoding_rows import SOFT_TOKENS as K
from tests.support.decoding_rows import TASK, rows_of, soft_of
from tests.support.model_pairs import Arch, save_checkpoint
from tests.support.tokenising import token_ids

ARCHES: tuple[Arch, ...] = ("mistral", "llama", "gpt_neox", "qwen2")


@pytest.fixture(scope="module", params=ARCHES)
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FrozenLM:
    folder = tmp_path_factory.mktemp(request.param)
    model = FrozenLM.load(str(save_checkpoint(folder / "model", request.param)))
    model.model.double()
    return model


@pytest.mark.parametrize("header", [False, True])
def test_exactly_one_bos_and_labels_on_answer_and_eos_alone(lm: FrozenLM, header: bool) -> None:
    rows = rows_of(lm, 6, header=2 if header else 0, soft_after_header=header, answers=True)
    for pad in ("left", "right"):
        batch = assemble(lm, rows, soft_of(lm, 6), pad=pad)
        for i, row in enumerate(rows):
            real = batch.mask[i].nonzero()[:, 0]
            assert torch.equal(real, torch.arange(int(real[0]), int(real[-1]) + 1))
            assert torch.equal(batch.positions[i, real], torch.arange(len(real)))
            assert torch.equal(batch.embeds[i, real[0]], lm.embedding.weight[lm.bos])
            ids = row.before + row.prompt + row.answer
            assert ids[0] == lm.bos
            if lm.bos != lm.eos:
                assert ids.count(lm.bos) == 1
            assert row.answer[-1] == lm.eos
            labelled = batch.labels[i][batch.labels[i] != IGNORED]
            assert tuple(labelled.tolist()) == row.answer
            start = int(batch.answer_start[i])
            assert torch.equal(batch.labels[i, start : start + len(row.answer)], torch.tensor(row.answer))
            slots = batch.embeds[i, int(batch.soft_start[i]) : int(batch.soft_start[i]) + K]
            assert torch.equal(slots, soft_of(lm, 6).tokens[i])


def test_the_prompt_is_the_same_with_and_without_soft_tokens_and_answer(lm: FrozenLM) -> None:
    for with_answer, without in zip(rows_of(lm, 20, answers=True), rows_of(lm, 20), strict=True):
        assert with_answer.prompt == without.prompt
        assert with_answer.text_only().prompt == with_answer.before + with_answer.prompt
    example = TASK.test()[0]
    whole = token_ids(lm.tokenizer, TASK.prompt(example) + TASK.continuation(example))
    row = rows_of(lm, 1, answers=True)[0]
    assert row.before[1:] + row.prompt + row.answer[:-1] == whole


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_logits_do_not_depend_on_the_batch_or_the_padding(lm: FrozenLM, data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 5))
    chosen = data.draw(st.integers(0, count - 1))
    pad = data.draw(st.sampled_from(["left", "right"]))
    rows, soft = rows_of(lm, count, answers=True), soft_of(lm, count)
    with torch.no_grad():
        together = assemble(lm, rows, soft, pad=pad)
        alone = assemble(lm, rows[chosen : chosen + 1], soft.rows([chosen]), pad="right")
        batch_logits = lm.logits(lm.hidden(together.embeds, together.mask, together.positions))
        own_logits = lm.logits(lm.hidden(alone.embeds, alone.mask, alone.positions))
    real = together.mask[chosen].bool()
    assert torch.allclose(batch_logits[chosen][real], own_logits[0], atol=1e-6)


@pytest.mark.parametrize("sampled", [False, True])
def test_text_does_not_depend_on_the_batch(lm: FrozenLM, sampled: bool) -> None:
    rows, soft = rows_of(lm, 7), soft_of(lm, 7)

    def draws(which: list[int]) -> Sampling | None:
        return Sampling(temperature=1.0, generators=[generator("draw", i) for i in which]) if sampled else None

    together = decode_rows(lm, rows, soft, 12, draws(list(range(7))))
    alone = [decode_rows(lm, [rows[i]], soft.rows([i]), 12, draws([i]))[0] for i in range(7)]
    assert together == alone
    assert all(len(ids) <= 12 and not lm.ends & set(ids[:-1]) for ids in together)


def test_greedy_decoding_is_the_models_own(lm: FrozenLM) -> None:
    row = rows_of(lm, 1)[0]
    ids = torch.tensor([row.before + row.prompt])
    own = lm.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=10,
        do_sample=False,
        eos_token_id=sorted(lm.ends),
        pad_token_id=lm.pad,
    )
    assert decode_rows(lm, [row], None, 10)[0] == own[0, ids.shape[1] :].tolist()


def test_capture_is_the_models_own_hidden_state(lm: FrozenLM) -> None:
    ids = torch.tensor([rows_of(lm, 1, answers=True)[0].prompt] * 2)
    mask = torch.ones_like(ids)
    own = lm.model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False).hidden_states
    for layer in range(lm.num_layers):  # the last entry of hidden_states is after the final norm
        assert torch.allclose(lm.capture(ids, mask, layer), own[layer], atol=1e-9)
    assert torch.equal(lm.capture(ids, mask, -1), lm.capture(ids, mask, lm.num_layers))
    with pytest.raises(UserError, match="has layers 0 to"):
        lm.capture(ids, mask, lm.num_layers + 1)


def test_question_span_covers_the_question(lm: FrozenLM) -> None:
    for item in Encoder(tiny(), TASK, TASK.header(TASK.train()[:2]), lm, lm)(TASK.test()[:10]):
        begin, end = item.question_span
        assert lm.tokenizer.decode(item.source_ids[begin:end]).strip() == item.example.question


def test_a_token_across_the_cut_is_refused(lm: FrozenLM) -> None:
    with pytest.raises(ValueError, match="lies across"):
        answer_row(lm, "", "Question: how man", "y apples are there?", soft_after_header=False)


def test_positions_count_real_tokens() -> None:
    assert count_positions(torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])).tolist() == [[0, 0, 0, 1], [0, 1, 2, 2]]


def test_soft_only_supervises_the_same_answer(lm: FrozenLM) -> None:
    spec = tiny(layout="soft_only", num_fewshot=2)
    encoder = Encoder(spec, TASK, TASK.header(TASK.train()[:2]), lm, lm)
    for item in encoder(TASK.test()[:5]):
        assert item.row.answer == item.text_row.answer
        assert item.row.prompt == token_ids(lm.tokenizer, TASK.instruction)
        assert encoder([item.example])[0] is item


def test_a_checkpoint_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="cannot load the checkpoint") as error:
        FrozenLM.load(str(tmp_path))
    assert "\n" not in str(error.value)
