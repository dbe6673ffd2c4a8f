"""Answer rows of text with one of two frozen models, in batches shared out among the workers.

Rows that no translator touches are baselines: their outputs are kept in the node's cache, for all trials on it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.likelihood import Choices, choices_of, likelihood_tables
from ray_bridge.evaluation.prompt_size import PromptSize
from ray_bridge.generation.fixed_shape import BatchShapes, fixed_batches
from ray_bridge.generation.generate import decode_rows
from ray_bridge.generation.graphed import check_fits, fits, uses_graphs
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.rows import Row
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.tasks.task import Example

SOURCE_BATCH = 32
"""Examples that the source and the bridge read at once; one under `batch_invariant`."""

Output = dict[str, Any]
"""{"text": str, "tokens": int, "truncated": bool}: what one example led to under one condition."""

SoftTokens = Callable[[Sequence[int]], SoftContext]
"""Makes the soft tokens of a batch, given the indices of its rows."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where generated texts end.

    Attributes:
        max_new_tokens: most tokens of a text.
        stops: texts that end it.
    """

    max_new_tokens: int
    stops: tuple[str, ...]


def generated(stopping: Stopping, ids: Sequence[int]) -> Output:
    """Return the output of a row from its generated ids."""
    return {"text": stopping.text(ids), "tokens": len(ids), "truncated": not stopping.has_ended(ids)}


class Answerer:
    """Answers rows with the source or the target: by greedy decoding, or by likelihood if the task offers choices.

    Args:
        pair: the models and the encoder, in evaluation's arithmetic.
        worker: this process among its peers, which share the examples.
        batch_size: examples decoded together; changes speed, and rounding unless the job is `batch_invariant`.
        cache: keeps the outputs that do not depend on a translator.

    Attributes:
        shapes: of decoded batches under `batch_invariant`, else None, as in float64, whose text no batch changes.
        statistics: counts of decoding, over all calls.
        sizes: positions of each example's prompt in the last call, by condition.
        seconds: time of the last call, by condition; absent if its outputs were in the cache.
        answer_limit: most tokens of an answer; None for the spec's. What the source writes for the target at a
            number of tokens is not cut by it.
        on_batch: called before each batch that this process decodes; does nothing unless it is replaced.
    """

    def __init__(self, pair: ModelPair, worker: Worker, batch_size: int, cache: NodeCache) -> None:
        self.pair, self.worker, self.batch_size, self.cache = pair, worker, batch_size, cache
        self.spec = pair.spec
        self.shapes = BatchShapes() if pair.spec.fixed_shapes else None
        self.statistics = DecodingStatistics()
        self.sizes: dict[str, list[PromptSize]] = {}
        self.seconds: dict[str, float] = {}
        self.answer_limit: int | None = None
        self.on_batch: Callable[[], None] = lambda: None
        self._dealt: set[tuple[str, ...]] = set()

    def _encoded(self, examples: Sequence[Example]) -> list[Encoded]:
        """Encode examples that every worker needs, since all sort them by length: each one on one worker, once."""
        names = tuple(example.id for example in examples)
        if self.worker.world > 1 and names not in self._dealt:
            encoder = self.pair.encoder
            encoder.remember(self.worker.deal(len(examples), lambda numbers: encoder([examples[i] for i in numbers])))
            self._dealt.add(names)
        return self.pair.encoder(examples)

    def text_bridge_row(self, example: Example, written: str) -> Row:
        """Return the target's prompt with what the source wrote, cut at its end where the context would not hold it."""
        row, context = self.pair.encoder.text_bridge_row(example, written), self.pair.target.context
        new = self._limits.max_new_tokens
        while context is not None and written and len(row.before) + len(row.prompt) + new > context:
            written = written[: len(written) * 3 // 4]
            row = self.pair.encoder.text_bridge_row(example, written)
        return row

    def baseline(self, lm: FrozenLM, condition: str, rows: Sequence[Row], examples: Sequence[Example]) -> list[Output]:
        """Answer what does not depend on the translator, once for all evaluations, trials and phases."""
        choices = self._choices(lm, examples)
        self._note_sizes(condition, rows, choices)
        return self._cached(condition, lm, rows, choices, self._limits)

    def written_by_source(
        self,
        condition: str,
        rows: Sequence[Row],
        max_new_tokens: int,
        stops: Sequence[str],
        examples: Sequence[Example] = (),
    ) -> list[Output]:
        """Let the source write what the target will read under a condition, once for all evaluations and trials.

        Args:
            condition: for which it writes; the time is noted as `source of CONDITION`.
            rows: what it reads.
            max_new_tokens: most tokens that it writes.
            stops: texts that end what it writes.
            examples: of the rows, if it answers them; then it may choose among choices.
        """
        choices = self._choices(self.pair.source, examples)
        limits = Limits(max_new_tokens=max_new_tokens, stops=tuple(stops))
        return self._cached(f"source of {condition}", self.pair.source, rows, choices, limits)

    def _cached(
        self, name: str, lm: FrozenLM, rows: Sequence[Row], choices: Sequence[Choices] | None, limits: Limits
    ) -> list[Output]:
        self.seconds.pop(name, None)
        identity = {
            "model": self.pair.digest_of(lm),
            "dtype": str(lm.dtype),
            "rows": [list(row.before + row.prompt) for row in rows],
            "max_new_tokens": limits.max_new_tokens,
            "ends": sorted(lm.ends),
            "stops": list(limits.stops),
        }
        identity |= {"choices": [list(map(list, one.tokens)) for one in choices]} if choices else {}
        identity |= {"batch_invariant": True} if self.shapes else {}

        def answer() -> list[Output]:
            return self._timed(name, lambda: self._answer(lm, rows, None, choices, limits))

        return self.cache.records(name.replace(" ", "_"), identity, len(rows), self.worker, answer)

    def _note_sizes(
        self, condition: str, rows: Sequence[Row], choices: Sequence[Choices] | None, inserted: int | None = None
    ) -> None:
        tokens = [()] * len(rows) if choices is None else [tuple(map(len, one.tokens)) for one in choices]
        self.sizes[condition] = [PromptSize.of(row, inserted, own) for row, own in zip(rows, tokens, strict=True)]

    def _timed(self, condition: str, answer: Callable[[], list[Output]]) -> list[Output]:
        began = time.perf_counter()
        outputs = answer()
        self.seconds[condition] = time.perf_counter() - began
        return outputs

    def _choices(self, lm: FrozenLM, examples: Sequence[Example]) -> list[Choices] | None:
        """Return the tokens of each example's choices; None if the task's answers are generated."""
        choices = [choices_of(self.pair.task, lm, example) for example in examples]
        return [one for one in choices if one is not None] or None

    @property
    def _limits(self) -> Limits:
        limit = self.answer_limit or self.spec.max_new_tokens
        return Limits(max_new_tokens=limit, stops=tuple(self.pair.task.stops))

    def _answer(
        self,
        lm: FrozenLM,
        rows: Sequence[Row],
        soft_of: SoftTokens | None,
        choices: Sequence[Choices] | None,
        limits: Limits,
    ) -> list[Output]:
        """Answer rows in batches of similar length, shared out among workers; every worker gets all outputs.

        Args:
            lm: the model that answers.
            rows: what it reads, one row an example.
            soft_of: returns the soft tokens of some examples, by their indices; None for text alone.
            choices: what each row is to choose from by likelihood, or None to generate answers.
            limits: where generated answers end.
        """
        if not rows:
            return []
        order = sorted(range(len(rows)), key=lambda i: (len(rows[i].before) + len(rows[i].prompt), i))
        # Workers that hold parts of the model answer the same rows together.
        sharing = self.worker if lm.shards is None else self.worker.data_parallel
        # No worker waits for another's last batch; with graphs as many rows are decoded at once as memory holds.
        rows_each = -(-len(order) // sharing.world)
        most = self.spec.soft_tokens + limits.max_new_tokens
        longest = max(len(row.before) + len(row.prompt) for row in rows) + most
        writes = soft_of is not None and self.spec.writes_cache
        graphed = uses_graphs(lm, self.statistics, longest) and not writes
        size = rows_each if graphed else min(self.batch_size, rows_each)
        # Contexts of a batch are padded to the longest of them, and a cache is written in that shape.
        size = 1 if self.shapes is not None and writes else size
        batches = [order[at : at + size] for at in range(0, len(order), size)]
        if choices is None and self.shapes is not None:
            self._check_memory(lm, rows, limits, self.shapes, soft=soft_of is not None)
        stopping, together = Stopping.of(lm, limits.stops), 1 if self.shapes else SOURCE_BATCH
        own_outputs: dict[int, Output] = {}
        for number in sharing.share(len(batches)):
            self.on_batch()
            batch = batches[number]
            soft = None
            if soft_of is not None:
                parts = [soft_of(batch[at : at + together]) for at in range(0, len(batch), together)]
                soft = SoftContext.concatenate(parts)
            if choices is not None:
                asked, offered = [rows[i] for i in batch], [choices[i] for i in batch]
                tables = likelihood_tables(lm, asked, soft, offered, None if self.shapes else self.batch_size)
                for i, table in zip(batch, tables, strict=True):
                    own_outputs[i] = {"text": table, "tokens": 0, "truncated": False}
                continue
            tokens = decode_rows(
                lm,
                [rows[i] for i in batch],
                soft,
                limits.max_new_tokens,
                statistics=self.statistics,
                stops=limits.stops,
                shapes=self.shapes,
            )
            for i, ids in zip(batch, tokens, strict=True):
                own_outputs[i] = generated(stopping, ids)
        outputs: dict[int, Output] = {}
        for part in sharing.gather(own_outputs):
            outputs.update(part)  # type: ignore[call-overload]
        return [outputs[i] for i in range(len(rows))]

    def _check_memory(
        self, lm: FrozenLM, rows: Sequence[Row], limits: Limits, shapes: BatchShapes, *, soft: bool
    ) -> None:
        """Refuse batches of fixed shapes that do not fit, on all workers if on one: none waits for another's texts.

        Raises:
            UserError: in one line, with the remedy.
        """
        inserted = self.spec.inserted if soft else 0
        batches = fixed_batches(lm, rows, limits.max_new_tokens, shapes, soft=soft, inserted=inserted)
        # In one order on every worker: those that hold parts of a model agree on each.
        for longest, shape in dict.fromkeys((batch.longest, batch.shape) for batch in batches):
            captured = uses_graphs(lm, self.statistics, longest) and not (soft and self.spec.writes_cache)
            does = not captured or fits(lm, shape, longest)
            check_fits(lm, shape, all(self.worker.gather(does)))
