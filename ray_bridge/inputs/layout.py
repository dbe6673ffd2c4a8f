"""The sequence layout of training, the KL teacher, evaluation and every baseline.

    soft_plus_text   [BOS] [Z_1..Z_K] [prompt] [answer] [EOS]
    soft_only        [BOS] [Z_1..Z_K] [short instruction] [answer] [EOS]
    text_only        [BOS]            [prompt] [answer] [EOS]

With `soft_position = before_question` the few-shot header comes before Z. A row is one block of real tokens; pads are
on one side of it, no token attends to them, and they do not count as positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ray_bridge.gpu.transfer import send
from ray_bridge.inputs.resample import resample
from ray_bridge.inputs.row_cache import CacheWriter
from ray_bridge.inputs.rows import Row, shared_header
from ray_bridge.inputs.tokenised import TokenisedText, tokenise
from ray_bridge.models.frozen_lm import FrozenLM, count_positions
from ray_bridge.models.prefix_cache import Prefix
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.models.text_reader import TextReader

IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Inputs of one forward pass. L is the length of the longest row, its K soft tokens included.

    Attributes:
        embeds: (B, L, d).
        mask: (B, L), 1 on real tokens and soft tokens.
        positions: (B, L).
        labels: (B, L), token ids on answer and EOS, -100 elsewhere.
        answer_start: (B,), index of the first answer token (or of the first token to be generated).
        soft_start: (B,), index of the first soft token.
        answers: the positions whose next token is supervised.
        prefix: text before every row, which is not in `embeds`; `positions` count it, indices do not.
        context: what the target's adapters read, None unless the rows' injection is `adapter`.
    """

    embeds: Tensor
    mask: Tensor
    positions: Tensor
    labels: Tensor
    answer_start: Tensor
    soft_start: Tensor
    answers: "AnswerPositions"
    prefix: Prefix | None = None
    context: SoftContext | None = None


@dataclass(frozen=True, kw_only=True)
class AnswerPositions:
    """The positions of a batch whose logits predict answer tokens, packed over rows; N answer tokens with EOS.

    Attributes:
        rows: (N,), row in the batch.
        at: (N,), index in the row, one before the token's own.
        tokens: (N,), the token that is predicted.
        ids: the tokens of each row on the host, which can be compared without waiting for a device.
        first: the least of `at`, on the host; 0 without answers.
    """

    rows: Tensor
    at: Tensor
    tokens: Tensor
    ids: Sequence[tuple[int, ...]]
    first: int


def common_prefix(lm: FrozenLM, rows: Sequence[Row], *, soft: bool) -> Prefix | None:
    """Return the states of what opens all rows, BOS and few-shot header; None if they share no long header.

    Args:
        lm: the model that reads the rows.
        rows: rows of one batch.
        soft: whether soft tokens come after each row's `before`.
    """
    return lm.prefix(shared_header(rows, soft=soft))


def assemble_after_prefix(
    lm: FrozenLM, rows: Sequence[Row], soft: SoftContext | None, *, pad: Literal["left", "right"]
) -> Batch:
    """Build the inputs for `rows` as `assemble` does, after their common prefix if they have one."""
    return assemble(lm, rows, soft, pad=pad, prefix=common_prefix(lm, rows, soft=soft is not None))


def assemble(
    lm: FrozenLM,
    rows: Sequence[Row],
    soft: SoftContext | None,
    *,
    pad: Literal["left", "right"],
    prefix: Prefix | None = None,
) -> Batch:
    """Build the inputs for `rows` with their soft tokens.

    Args:
        lm: the model whose embeddings are used.
        rows: one row an example.
        soft: soft tokens of each row and the adapters that read them, or None for text alone.
        pad: "right" for training, "left" for generation.
        prefix: `common_prefix` of the same rows, which is not read again, or None.

    Returns:
        A batch in which each row's embeddings, labels and positions do not depend on the other rows.

    Raises:
        ValueError: if the prefix is longer than what comes before the soft tokens.
    """
    if soft is not None and soft.writer is not None:
        return _assemble_after_cache(lm, rows, soft, pad)
    K = inserted_tokens(rows, soft)
    past = 0 if prefix is None else len(prefix)
    if soft is not None and any(past > len(row.before) for row in rows):
        raise ValueError("the prefix reaches past the place of the soft tokens")
    rows = [row.after(past) for row in rows] if past else rows
    lengths = [len(row.before) + K + len(row.prompt) + len(row.answer) for row in rows]
    L = max(lengths)
    lm.check_length(past + L, f"a row of text with {K} soft tokens" if K else "a row of text")
    ids = torch.full((len(rows), L), lm.pad)  # (B, L)
    mask = torch.zeros(len(rows), L, dtype=torch.long)  # (B, L)
    labels = torch.full((len(rows), L), IGNORED)  # (B, L)
    starts = torch.zeros(len(rows), dtype=torch.long)  # (B,)
    answer_starts = torch.zeros(len(rows), dtype=torch.long)  # (B,)
    for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        first = L - length if pad == "left" else 0
        soft_start = first + len(row.before)
        answer_start = first + length - len(row.answer)
        ids[i, first:soft_start] = torch.tensor(row.before, dtype=torch.long)
        ids[i, soft_start + K : answer_start] = torch.tensor(row.prompt, dtype=torch.long)
        ids[i, answer_start : first + length] = torch.tensor(row.answer, dtype=torch.long)
        labels[i, answer_start : first + length] = ids[i, answer_start : first + length]
        mask[i, first : first + length] = 1
        starts[i], answer_starts[i] = soft_start, answer_start
    answer_rows, at = (labels != IGNORED).nonzero(as_tuple=True)  # (N,), (N,)
    answers = AnswerPositions(
        rows=send(answer_rows, lm.device),
        at=send(at - 1, lm.device),
        tokens=send(labels[answer_rows, at], lm.device),
        ids=[tuple(row.answer) for row in rows],
        first=int(at.min()) - 1 if len(at) else 0,
    )
    soft_starts = starts.tolist()
    ids, mask, labels, starts, answer_starts = (send(x, lm.device) for x in (ids, mask, labels, starts, answer_starts))
    embeds = lm.embed(ids)  # (B, L, d)
    if soft is not None and rows[0].injection == "residual":
        embeds = embeds + _over_question(rows, soft.tokens, soft_starts, L).to(embeds.dtype)  # (B, L, d)
    if soft is not None and K:
        slots = starts[:, None] + torch.arange(K, device=lm.device)  # (B, K)
        index = slots[..., None].expand(-1, -1, embeds.shape[-1])  # (B, K, d)
        embeds = embeds.scatter(1, index, soft.tokens.to(embeds.dtype))  # (B, L, d)
    return Batch(
        embeds=embeds,
        mask=mask,
        positions=count_positions(mask) + past,
        labels=labels,
        answer_start=answer_starts,
        soft_start=starts,
        answers=answers,
        prefix=prefix,
        context=read_by_adapters(rows, soft),
    )


def _assemble_after_cache(lm: FrozenLM, rows: Sequence[Row], soft: SoftContext, pad: Literal["left", "right"]) -> Batch:
    """Build the inputs of rows whose start is in keys and values that the injection has written."""
    written = cast(CacheWriter, soft.writer)(lm, rows, soft)
    batch = assemble(lm, written.rows, None, pad=pad)
    positions = batch.positions + send(written.positions, lm.device)[:, None]  # (B, L)
    return replace(batch, positions=positions, prefix=written.prefix)


def read_by_adapters(rows: Sequence[Row], soft: SoftContext | None) -> SoftContext | None:
    """Return what the layers' adapters read, None unless that is how the rows' soft tokens are injected."""
    return soft if rows[0].injection == "adapter" else None


def inserted_tokens(rows: Sequence[Row], soft: SoftContext | None) -> int:
    """Return how many soft tokens are inserted into each row, 0 if they are added to its text or read by adapters."""
    return 0 if soft is None or rows[0].injection != "prepend" else soft.tokens.shape[1]


def _over_question(rows: Sequence[Row], soft: Tensor, starts: Sequence[int], length: int) -> Tensor:
    """Resample soft tokens over each question's tokens, zero elsewhere, (B, K, d) -> (B, L, d)."""
    parts = []
    for row, z, start in zip(rows, soft, starts, strict=True):
        low, high = start + row.span[0], start + row.span[1]
        parts.append(F.pad(resample(z, high - low), (0, 0, low, length - high)))  # (L, d)
    return torch.stack(parts)  # (B, L, d)


def answer_row(lm: TextReader, header: str, prompt: str, answer: str | None, *, soft_after_header: bool) -> Row:
    """Return the row of one example for a model: BOS, header and prompt, and for training the answer with its EOS.

    Args:
        lm: the model that reads the row or continues it.
        header: few-shot exemplars, may be empty.
        prompt: the question with its cue.
        answer: the continuation that is supervised, or None if it is to be generated.
        soft_after_header: whether soft tokens come between header and prompt, or right after BOS.

    Raises:
        ValueError: if the prompt's ids differ with and without the answer, so that training would see a prompt that
            generation never does.
    """
    texts = [header + prompt, *([] if answer is None else [header + prompt + answer])]
    read, *answered = tokenise(lm.tokenizer, texts)
    lengths = len(header), len(header) + len(prompt)
    return row_of(lm, read, answered[0] if answered else None, lengths, soft_after_header=soft_after_header)


def row_of(
    lm: TextReader,
    prompt: TokenisedText,
    answered: TokenisedText | None,
    ends: tuple[int, int],
    *,
    soft_after_header: bool,
    opening: int = 0,
) -> Row:
    """Return the row of one example as `answer_row` does, from its tokenised text.

    A conversation holds the BOS that its template writes, if any; before other text BOS is put.

    Args:
        lm: the model that reads the row or continues it.
        prompt: header and prompt.
        answered: header, prompt and answer, or None if the answer is to be generated.
        ends: characters of the header, and of header and prompt together.
        soft_after_header: as in `answer_row`.
        opening: tokens of the text before soft tokens that do not come after the header.

    Raises:
        ValueError: as `answer_row`.
    """
    in_turns = lm.chat is not None
    bos = () if in_turns else (lm.bos,)
    ids, header = prompt.ids, prompt.tokens_before(ends[0], whole_tokens=in_turns)
    answer_ids = () if answered is None else (*_answer_ids(lm, prompt, answered, ends[1]), lm.eos)
    place = header if soft_after_header else opening
    return Row(before=(*bos, *ids[:place]), prompt=ids[place:], answer=answer_ids, header=len(bos) + header)


def _answer_ids(lm: TextReader, prompt: TokenisedText, answered: TokenisedText, end: int) -> tuple[int, ...]:
    count = answered.tokens_before(end, whole_tokens=lm.chat is not None)
    if answered.ids[:count] == prompt.ids:
        return answered.ids[count:]
    if lm.chat is None:
        raise ValueError(
            f"{lm.name} tokenises {prompt.part[-20:]!r} differently before an answer: end it at a word's end"
        )
    # The answer follows the prompt's ids as they are: decoding, too, begins after them.
    return tokenise(lm.tokenizer, [answered.part[end - answered.characters :]])[0].ids
