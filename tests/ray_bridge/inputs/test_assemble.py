"""What one batch holds: supervised positions, soft tokens by each way of injection, a prefix that is not read again."""

from dataclasses import replace

import pytest
import torch

from ray_bridge.inputs.layout import (
    answer_row,
    assemble,
    assemble_after_prefix,
    common_prefix,
    inserted_tokens,
    read_by_adapters,
)
from ray_bridge.inputs.resample import resample
from ray_bridge.inputs.rows import MIN_HEADER, Row
from ray_bridge.models.frozen_lm import FrozenLM
from tests.support.decoding_rows import SOFT_TOKENS as K
from tests.support.decoding_rows import rows_of, soft_of, tokens_of
from tests.support.model_pairs import frozen


@pytest.fixture(scope="module")
def lm() -> FrozenLM:
    return frozen("llama", 32)


@pytest.mark.parametrize("pad", ["left", "right"])
def test_each_answer_token_is_predicted_one_position_before_its_own(lm: FrozenLM, pad: str) -> None:
    rows = rows_of(lm, 4, answers=True)
    batch = assemble(lm, rows, soft_of(lm, 4), pad=pad)  # type: ignore[arg-type]
    expected = [
        (i, int(batch.answer_start[i]) + j - 1, token)
        for i, row in enumerate(rows)
        for j, token in enumerate(row.answer)
    ]
    answers = batch.answers
    found = list(zip(answers.rows.tolist(), answers.at.tolist(), answers.tokens.tolist(), strict=True))
    assert found == expected
    assert list(answers.ids) == [row.answer for row in rows]
    assert (batch.prefix, batch.context) == (None, None)
    assert batch.mask.dtype == batch.answer_start.dtype == torch.long


def with_span(row: Row, injection: str) -> Row:
    """Return a row whose question is the last five tokens of its prompt."""
    return replace(row, injection=injection, span=(len(row.prompt) - 5, len(row.prompt)))  # type: ignore[arg-type]


@pytest.mark.parametrize("pad", ["left", "right"])
def test_residual_tokens_are_added_over_the_question_and_nowhere_else(lm: FrozenLM, pad: str) -> None:
    rows = [with_span(row, "residual") for row in rows_of(lm, 3, answers=True)]
    soft = soft_of(lm, 3)
    batch = assemble(lm, rows, soft, pad=pad)  # type: ignore[arg-type]
    text = assemble(lm, rows, None, pad=pad)  # type: ignore[arg-type]
    assert inserted_tokens(rows, soft) == 0
    assert batch.embeds.shape == text.embeds.shape
    for i, row in enumerate(rows):
        begin = int(batch.soft_start[i]) + row.span[0]
        added = batch.embeds[i] - text.embeds[i]
        expected = torch.zeros_like(added)
        expected[begin : begin + 5] = resample(soft.tokens[i], 5)
        torch.testing.assert_close(added, expected, atol=1e-6, rtol=1e-5)
    assert batch.context is None
    assert torch.equal(batch.positions, text.positions)


def test_adapters_get_the_soft_tokens_and_the_sequence_does_not(lm: FrozenLM) -> None:
    rows = [with_span(row, "adapter") for row in rows_of(lm, 2)]
    soft = soft_of(lm, 2)
    batch = assemble(lm, rows, soft, pad="right")
    assert batch.context is soft
    assert torch.equal(batch.embeds, assemble(lm, rows, None, pad="right").embeds)
    assert read_by_adapters(rows, soft) is soft
    assert read_by_adapters(rows_of(lm, 2), soft) is None
    assert (inserted_tokens(rows, soft), inserted_tokens(rows_of(lm, 2), soft)) == (0, K)
    assert inserted_tokens(rows_of(lm, 2), None) == 0


def test_soft_tokens_take_the_type_of_the_embeddings(lm: FrozenLM) -> None:
    rows = rows_of(lm, 2)
    soft = replace(soft_of(lm, 2), tokens=tokens_of(lm, 2).double())
    batch = assemble(lm, rows, soft, pad="right")
    assert batch.embeds.dtype == lm.embedding.weight.dtype
    residual = [with_span(row, "residual") for row in rows]
    assert assemble(lm, residual, soft, pad="right").embeds.dtype == lm.embedding.weight.dtype


@pytest.mark.parametrize("soft_after_header", [True, False])
def test_a_long_header_that_all_rows_share_is_a_prefix(lm: FrozenLM, soft_after_header: bool) -> None:
    rows = rows_of(lm, 3, header=2, soft_after_header=soft_after_header, answers=True)
    header = rows[0].header
    assert header >= MIN_HEADER
    ids = (rows[0].before + rows[0].prompt)[:header]
    assert ids[0] == lm.bos
    text = common_prefix(lm, rows, soft=False)
    assert text is not None
    assert len(text) == header
    with_soft = common_prefix(lm, rows, soft=True)
    assert (with_soft is not None) is soft_after_header, "soft tokens come before the header otherwise"
    assert common_prefix(lm, rows_of(lm, 3), soft=False) is None


def test_after_a_prefix_rows_are_shorter_and_positions_go_on(lm: FrozenLM) -> None:
    rows, soft = rows_of(lm, 3, header=2, soft_after_header=True, answers=True), soft_of(lm, 3)
    whole, rest = assemble(lm, rows, soft, pad="right"), assemble_after_prefix(lm, rows, soft, pad="right")
    past = rows[0].header
    assert rest.prefix is not None
    assert torch.equal(rest.embeds, whole.embeds[:, past:])
    assert torch.equal(rest.positions, whole.positions[:, past:])
    assert torch.equal(rest.labels, whole.labels[:, past:])
    assert torch.equal(rest.answers.at, whole.answers.at - past)
    assert torch.equal(rest.soft_start, whole.soft_start - past)
    text = assemble_after_prefix(lm, rows, None, pad="right")
    assert text.prefix is not None


@pytest.mark.parametrize("pad", ["left", "right"])
def test_rows_after_a_prefix_are_padded_on_the_side_that_is_asked_for(lm: FrozenLM, pad: str) -> None:
    rows, soft = rows_of(lm, 6, header=2, soft_after_header=True), soft_of(lm, 6)
    batch = assemble_after_prefix(lm, rows, soft, pad=pad)  # type: ignore[arg-type]
    lengths = [len(row.before) + K + len(row.prompt) - rows[0].header for row in rows]
    assert len(set(lengths)) > 1
    longest = max(lengths)
    for i, length in enumerate(lengths):
        pads = [0] * (longest - length)
        assert batch.mask[i].tolist() == ([*pads, *[1] * length] if pad == "left" else [*[1] * length, *pads])


def test_a_header_after_the_soft_tokens_is_a_prefix_of_text_alone(lm: FrozenLM) -> None:
    rows, soft = rows_of(lm, 3, header=2, soft_after_header=False), soft_of(lm, 3)
    assert assemble_after_prefix(lm, rows, soft, pad="right").prefix is None
    text = assemble_after_prefix(lm, rows, None, pad="right")
    assert text.prefix is not None
    assert len(text.prefix) == rows[0].header


def test_a_prefix_may_end_where_the_soft_tokens_begin_and_not_after(lm: FrozenLM) -> None:
    rows, soft = rows_of(lm, 2, header=2, soft_after_header=True), soft_of(lm, 2)
    assert len(rows[0].before) == rows[0].header
    prefix = common_prefix(lm, rows, soft=True)
    assert prefix is not None
    assemble(lm, rows, soft, pad="left", prefix=prefix)
    shorter = [replace(row, before=row.before[:-1], prompt=row.before[-1:] + row.prompt) for row in rows]
    with pytest.raises(ValueError, match="the prefix reaches past the place of the soft tokens"):
        assemble(lm, shorter, soft, pad="left", prefix=prefix)
    assemble(lm, shorter, None, pad="left", prefix=prefix)


@pytest.mark.parametrize("soft_after_header", [True, False])
def test_a_row_counts_its_header_with_bos(lm: FrozenLM, soft_after_header: bool) -> None:
    header = "Question: What is 1 plus 1?\nAnswer: 2\n\n"
    row = answer_row(lm, header, "Question: What is 2 plus 2?\nAnswer:", " 4", soft_after_header=soft_after_header)
    ids = tuple(lm.tokenizer(header, add_special_tokens=False)["input_ids"])
    assert row.header == 1 + len(ids)
    assert row.before == ((lm.bos, *ids) if soft_after_header else (lm.bos,))
    assert (row.before + row.prompt)[: row.header] == (lm.bos, *ids)
    assert row.answer[-1] == lm.eos
    assert answer_row(lm, "", "Answer:", None, soft_after_header=soft_after_header).header in (0, 1)
