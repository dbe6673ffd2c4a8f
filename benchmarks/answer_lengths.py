"""Decide where answers of random models end: at the largest number of new tokens, or at lengths like real answers'.

Real lengths are lognormal with a median of 120 tokens and a sigma of 0.42, cut at the limit of 256. The solutions of
GSM8K, tokenised for SmolLM2 with their calculator annotations and the end, have medians of 118 (test) and 114 (train)
tokens, a sigma of log length of 0.42 in both, and 2.6 and 2.9 % of them reach 256. With another limit the median keeps
its share of the limit. A row's length depends on its ids alone, so that it is the same for every way to decode, batch
and worker.

No product code takes part: the benchmark puts an id that no tokenizer has where a row is to end, as if the model had
written it, so that the row leaves its batch or cache by the decoder's own rules. Stop texts, which random text may hold
by chance, are off.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import NormalDist
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import clock
from benchmarks.random_models import Rig
from ray_bridge.generation import eager
from ray_bridge.generation.graphed_batch import GraphedBatch
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.noise import stable_seed

MEDIAN, SIGMA, LIMIT = 120, 0.42, 256
"""Of the lengths in tokens, their end included: median, standard deviation of the logarithm, and where they are cut."""
END = -1
"""The id that ends a row; no model chooses it."""


def real_length(row: Row, limit: int) -> int:
    """Return the number of tokens, the end included, that a row's answer has; at most `limit`."""
    place = np.random.default_rng(stable_seed("answer length", *row.before, *row.prompt)).uniform(1e-9, 1 - 1e-9)
    tokens = MEDIAN * limit / LIMIT * math.exp(SIGMA * NormalDist().inv_cdf(place))
    return min(limit, max(1, round(tokens)))


@contextmanager
def full_length_answers(rig: Rig) -> Iterator[None]:
    """Let no end-of-text token end an answer within the block, so that all reach the largest number of new tokens."""
    with _ends_of(list(rig.models.values()), frozenset()):
        yield


@contextmanager
def real_length_answers(models: Sequence[FrozenLM]) -> Iterator[None]:
    """Let each answer of some models end at its `real_length` within the block, decoded eagerly or in a fixed cache."""
    with ExitStack() as stack:
        stack.enter_context(_ends_of(models, frozenset({END})))
        plain = Stopping.of
        stack.enter_context(mock.patch.object(Stopping, "of", lambda lm, _stops=(): plain(lm)))
        for patch in (*_eager_ends(), *_cached_ends()):
            stack.enter_context(patch)
        yield


@contextmanager
def _ends_of(models: Sequence[FrozenLM], ends: frozenset[int]) -> Iterator[None]:
    """Let other ids than a model's own end its texts within the block."""
    own = [lm.ends for lm in models]
    try:
        for lm in models:
            lm.ends = ends
        yield
    finally:
        for lm, old in zip(models, own, strict=True):
            lm.ends = old


def _eager_ends() -> list[Any]:
    """Return patches by which eager decoding chooses `END` as a row's last token."""
    steps, choose = eager.eager_steps, eager.choose
    open_rows: list[list[int]] = []  # of the innermost call: how many tokens each row that is open still gets

    def counted_steps(lm: FrozenLM, rows: Sequence[Row], soft: SoftContext | None, limit: int, *rest: Any) -> Any:
        open_rows.append([real_length(row, limit) for row in rows])
        try:
            yield from steps(lm, rows, soft, limit, *rest)
        finally:
            open_rows.pop()

    def choose_or_end(logits: Tensor, *rest: Any) -> Tensor:
        token, left = choose(logits, *rest), open_rows[-1]
        last = torch.tensor([count == 1 for count in left], device=token.device)  # (b,)
        open_rows[-1] = [count - 1 for count in left if count > 1]
        return token.masked_fill(last, END)

    return [mock.patch.object(eager, "eager_steps", counted_steps), mock.patch.object(eager, "choose", choose_or_end)]


def _cached_ends() -> list[Any]:
    """Return patches by which decoding with a fixed cache writes `END` as a row's last token, captured or not."""
    init, append, refill, turn_over = (
        getattr(GraphedBatch, name) for name in ("__init__", "_append", "_refill", "_turn_over")
    )

    def with_lengths(batch: Any, lm: FrozenLM, rows: Sequence[Row], *rest: Any) -> None:
        init(batch, lm, rows, *rest)
        batch.lengths_of_rows = [real_length(row, batch.limit) for row in rows]
        batch.answer_lengths = of_places(batch)

    def of_places(batch: Any) -> Tensor:
        lengths = [batch.lengths_of_rows[row] for row in batch.open]
        return torch.tensor(lengths + [0] * (len(batch.ended) - len(lengths)), device=batch.ended.device)  # (b,)

    def end_rows(batch: Any) -> None:
        """Overwrite the last token of the rows that have all of theirs; once more changes nothing."""
        due = batch.at >= batch.answer_lengths  # (b,)
        last = (batch.at - 1).clamp(min=0)[:, None]  # (b, 1)
        token = batch.written.gather(1, last).masked_fill(due[:, None], END)  # (b, 1)
        batch.written.scatter_(1, last, token)
        batch.ended.logical_or_(due)

    def append_or_end(batch: Any, hidden: Tensor) -> None:
        append(batch, hidden)
        end_rows(batch)

    def refill_with_lengths(batch: Any, places: Sequence[int]) -> None:
        refill(batch, places)
        batch.answer_lengths.copy_(of_places(batch))  # in place, as a captured step reads it
        end_rows(batch)

    def turn_over_with_lengths(batch: Any) -> bool:
        goes_on = turn_over(batch)
        if len(batch.answer_lengths) != len(batch.ended):  # rows have left, and no captured step is kept
            batch.answer_lengths = of_places(batch)
        return bool(goes_on)

    return [
        mock.patch.object(GraphedBatch, "__init__", with_lengths),
        mock.patch.object(GraphedBatch, "_append", append_or_end),
        mock.patch.object(GraphedBatch, "_refill", refill_with_lengths),
        mock.patch.object(GraphedBatch, "_turn_over", turn_over_with_lengths),
    ]


def time_both_lengths(rig: Rig, answer: Callable[[], int]) -> dict[str, Any]:
    """Time one evaluation with answers of full length and one with real lengths, after a warm-up.

    Args:
        rig: whose models answer.
        answer: answers all rows and returns how many tokens were written.

    Returns:
        Seconds and tokens of both, and the ratio of the seconds, which is required to be 0.6 at most.
    """
    results: dict[str, Any] = {}
    ways = {"full": full_length_answers(rig), "real": real_length_answers(list(rig.models.values()))}
    for name, lengths in ways.items():
        with lengths:
            begin = clock(rig.device)
            tokens = answer()
            results[f"{name}_s"] = clock(rig.device) - begin
        results[f"{name}_tokens"] = tokens
    ratio = results["real_s"] / max(results["full_s"], 1e-9)
    return {name: round(value, 3) for name, value in results.items()} | {"ratio": round(ratio, 3)}
