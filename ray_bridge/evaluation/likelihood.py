"""Multiple choice by likelihood: how likely a model finds each choice as the continuation of a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from ray_bridge.inputs.layout import assemble_after_prefix
from ray_bridge.inputs.prompts import PromptReader
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.tasks.choices import Likelihood, likelihood_table
from ray_bridge.tasks.task import Example, Task

_LOGITS = 256  # positions whose logits are held at once


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The continuations that one question is to choose from.

    Attributes:
        tokens: ids of each, as they continue the prompt, without an end of text.
        characters: length of each, without the space before it.
    """

    tokens: tuple[tuple[int, ...], ...]
    characters: tuple[int, ...]


def choices_of(task: Task, lm: FrozenLM, example: Example) -> Choices | None:
    """Return what an example is to choose from, in a model's tokens; None if its answer is generated."""
    continuations = task.continuations(example)
    if continuations is None:
        return None
    prompt = task.prompt(example)
    count = len(continuations)
    read = PromptReader(lm, "").read([prompt] * count, [example.question] * count, continuations)
    return Choices(
        tokens=tuple(one.row.answer[:-1] for one in read),  # the last id is the end of text
        characters=tuple(len(text.strip()) for text in continuations),
    )


def likelihood_tables(
    lm: FrozenLM, rows: Sequence[Row], soft: SoftContext | None, choices: Sequence[Choices], batch_size: int | None
) -> list[str]:
    """Return an output for each row that says how likely each of its choices is.

    Args:
        lm: the model that chooses.
        rows: prompts without answers.
        soft: soft tokens of each row, or None.
        choices: what each row is to choose from.
        batch_size: continuations read together; changes speed, memory and rounding only. None reads those of each row
            by themselves, so that no rounding depends on another row.
    """
    places = [(i, tokens) for i, one in enumerate(choices) for tokens in one.tokens]
    totals: list[float] = []
    for batch in _batches(places, batch_size):
        answered = [replace(rows[i], answer=tokens) for i, tokens in batch]
        own = None if soft is None else soft.rows([i for i, _ in batch])
        totals += log_likelihoods(lm, answered, own).tolist()
    tables, at = [], 0
    for one in choices:
        ours = totals[at : at + len(one.tokens)]
        at += len(one.tokens)
        tables.append(
            likelihood_table([Likelihood(total=t, characters=c) for t, c in zip(ours, one.characters, strict=True)])
        )
    return tables


def _batches(places: list[tuple[int, tuple[int, ...]]], size: int | None) -> list[list[tuple[int, tuple[int, ...]]]]:
    if size is None:
        return [list(own) for _, own in groupby(places, key=lambda place: place[0])]
    return [places[start : start + size] for start in range(0, len(places), size)]


@torch.no_grad()
def log_likelihoods(lm: FrozenLM, rows: Sequence[Row], soft: SoftContext | None) -> Tensor:
    """Return the log-likelihood in nats of each row's answer after its prompt, (B,)."""
    batch = assemble_after_prefix(lm, rows, soft, pad="right")
    hidden = lm.hidden(
        batch.embeds, batch.mask, batch.positions, prefix=batch.prefix, context=batch.context, right_padded=True
    )  # (B, L, d)
    answers = batch.answers
    states = hidden[answers.rows, answers.at]  # (N, d)
    totals = torch.zeros(len(rows), dtype=torch.float64, device=states.device)  # (B,)
    for start in range(0, len(states), _LOGITS):
        part = slice(start, start + _LOGITS)
        logits = lm.logits(states[part])  # (n, V)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        picked = logits.log_softmax(-1).gather(-1, answers.tokens[part, None])[:, 0]  # (n,)
        totals.index_add_(0, answers.rows[part], picked.double())
    return totals
