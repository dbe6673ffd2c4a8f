"""Decode and score examples under every condition: the bridged one, its baselines and its controls.

    bridged         the target with the example's own soft tokens: what the translator reaches
    target_alone    the target with the text alone: what it knows by itself
    source_alone    the source with the text alone: what there is to transfer
    text_bridge     the target with the source's written answer pasted into its prompt: what plain text transfers
    shuffled_soft   the target with another example's soft tokens: whether they are about this question
    random_soft     the target with noise of the same size: whether any soft tokens would do

`text_budgets` adds baselines at a number of tokens of text: see `ray_bridge.evaluation.text_budgets`.

Outputs are a function of the weights, the spec and the example. Batches are formed over the whole split and shared out
among the workers, noise is seeded by the example, and under eval_dtype=float64 not even rounding depends on the batch.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bridge_common.errors import UserError
from bridge_common.metric_names import CONDITIONS, budget_of
from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.likelihood import Choices, choices_of, likelihood_tables
from ray_bridge.evaluation.prompt_size import PromptSize
from ray_bridge.evaluation.text_budgets import SourceText, answer_at_budget, answer_texts, rows_with
from ray_bridge.generation.generate import decode_rows
from ray_bridge.generation.graphed import uses_graphs
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.generation.stopping import Stopping
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.rows import Row
from ray_bridge.inputs.source_batch import SourceBatch
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.noise import normal
from ray_bridge.tasks.score_outputs import score_on_workers
from ray_bridge.tasks.task import Example, Score

SOURCE_BATCH = 32
"""Examples that the source and the bridge read at once."""

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


class Evaluator:
    """Decodes greedily with a pair of frozen models and scores what they wrote.

    Args:
        pair: the models and the encoder, in evaluation's arithmetic.
        worker: this process among its peers, which share the examples.
        batch_size: examples decoded together; changes speed only.
        cache: keeps the outputs that do not depend on a translator.

    Attributes:
        statistics: counts of decoding, over all calls.
        sizes: positions of each example's prompt in the last call, by condition.
        written: what the source wrote for each example of the last call of `text_bridge`.
        source_texts: what the source read and wrote in the last call of a condition at a number of tokens.
        seconds: time of the last call, by condition; absent if its outputs were in the cache.
        on_batch: called before each batch that this process decodes; does nothing unless it is replaced.
    """

    def __init__(self, pair: ModelPair, worker: Worker, batch_size: int, cache: NodeCache) -> None:
        self.pair, self.worker, self.batch_size, self.cache = pair, worker, batch_size, cache
        self.spec = pair.spec
        self.statistics = DecodingStatistics()
        self.sizes: dict[str, list[PromptSize]] = {}
        self.written: list[str] = []
        self.source_texts: dict[str, SourceText] = {}
        self.seconds: dict[str, float] = {}
        self.on_batch: Callable[[], None] = lambda: None
        self._dealt: set[tuple[str, ...]] = set()

    def evaluate(
        self, examples: Sequence[Example], translator: TranslatorModule | None, conditions: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Decode and score examples under conditions.

        Args:
            examples: of one split.
            translator: makes the soft tokens, in evaluation's arithmetic; None if no condition needs any.
            conditions: some of `CONDITIONS`, or names of `at_budget`.

        Returns:
            One row an example, as in samples.jsonl, in the examples' order, the same on every worker.

        Raises:
            UserError: for an unknown condition, or `shuffled_soft` with a single example.
        """
        outputs: dict[str, list[Output]] = {}
        for condition in conditions:
            outputs[condition] = self.outputs(condition, examples, translator, outputs.get("source_alone"))
        scores = self._scores(examples, outputs)
        return [self._sample(example, i, outputs, scores) for i, example in enumerate(examples)]

    def _scores(self, examples: Sequence[Example], outputs: dict[str, list[Output]]) -> dict[tuple[str, int], Score]:
        """Return the score of every output, by condition and index."""
        places = [(condition, i) for condition in outputs for i in range(len(examples))]
        texts = [outputs[condition][i]["text"] for condition, i in places]
        asked = [examples[i] for _, i in places]
        scores = score_on_workers(self.pair.task, texts, asked, self.worker, torch.get_num_threads())
        return dict(zip(places, scores, strict=True))

    def _sample(
        self, example: Example, i: int, outputs: dict[str, list[Output]], scores: Mapping[tuple[str, int], Score]
    ) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": example.id,
            "index": example.index,
            "question": example.question,
            "gold": example.gold,
            **example.groups,
        }
        if example.cluster:
            row["cluster"] = example.cluster
        if example.choices:
            row["choices"] = list(example.choices)
        for condition, texts in outputs.items():
            score = scores[condition, i]
            row[f"{condition}_output"] = texts[i]["text"]
            row[f"{condition}_answer"] = score.answer
            row[f"{condition}_correct"] = score.correct
            row[f"{condition}_flexible"] = score.flexible
            row[f"{condition}_valid"] = score.valid
            row[f"{condition}_tokens"] = texts[i]["tokens"]
            if texts[i]["truncated"]:
                row[f"{condition}_truncated"] = True  # written only if so
            if score.f1 is not None:
                row[f"{condition}_f1"] = score.f1
        return row

    def outputs(
        self,
        condition: str,
        examples: Sequence[Example],
        translator: TranslatorModule | None,
        source_outputs: list[Output] | None = None,
    ) -> list[Output]:
        """Answer examples under one condition, without scoring them.

        Args:
            condition: one of `CONDITIONS`, or a name of `at_budget`.
            examples: of one split.
            translator: makes the soft tokens; None if the condition needs none.
            source_outputs: those of `source_alone`, which text_bridge pastes; decoded if None.

        Raises:
            UserError: for an unknown condition, or `shuffled_soft` with a single example.
        """
        if budget := budget_of(condition):
            return answer_at_budget(self, *budget, examples)
        if condition == "text_bridge":
            return self._text_bridge(examples, source_outputs)
        if condition == "target_alone":
            return self._alone(self.pair.target, condition, examples)
        if condition == "source_alone":
            return self._alone(self.pair.source, condition, examples)
        if condition not in CONDITIONS:
            raise UserError(f"unknown condition {condition!r}: use {', '.join(CONDITIONS)}")
        if translator is None:
            raise ValueError(f"{condition} needs a translator")
        soft_examples: Sequence[Example] = examples
        if condition == "shuffled_soft":
            if len(examples) < 2:
                raise UserError("shuffled_soft needs two examples or more: raise test_examples")
            half = len(examples) // 2  # a fixed shift never pairs an example with itself
            soft_examples = [examples[(i + half) % len(examples)] for i in range(len(examples))]
        items, soft_items = self._encoded(examples), self.pair.encoder(soft_examples)
        rows = [item.row.without_answer() for item in items]
        choices = self._choices(self.pair.target, examples)

        def soft_of(batch: Sequence[int]) -> SoftContext:
            if condition == "random_soft":
                return self._random_soft([items[i] for i in batch], translator)
            return self.soft([soft_items[i] for i in batch], translator)

        self._note_sizes(condition, rows, choices, inserted=self.spec.inserted)
        return self._timed(condition, lambda: self._answer(self.pair.target, rows, soft_of, choices, self._limits))

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

    def _alone(self, lm: FrozenLM, condition: str, examples: Sequence[Example]) -> list[Output]:
        if condition == "target_alone":
            rows = [item.text_row.without_answer() for item in self._encoded(examples)]
        else:
            rows = [self.pair.encoder.source_row(item) for item in self._encoded(examples)]
        return self.baseline(lm, condition, rows, examples)

    def _text_bridge(self, examples: Sequence[Example], source_outputs: list[Output] | None) -> list[Output]:
        """Answer with the source's written answers in the prompt, which are decoded first if they are not given."""
        if source_outputs is None:
            source_outputs = self._alone(self.pair.source, "source_alone", examples)
        self.written = answer_texts(self.pair.task, examples, source_outputs)
        rows = rows_with(self.worker, examples, self.written, self.text_bridge_row)
        return self.baseline(self.pair.target, "text_bridge", rows, examples)

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
        while context is not None and written and len(row.prompt) + self.spec.max_new_tokens > context:
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

        def answer() -> list[Output]:
            return self._timed(name, lambda: self._answer(lm, rows, None, choices, limits))

        return self.cache.records(name.replace(" ", "_"), identity, len(rows), self.worker, answer)

    @torch.no_grad()
    def soft(self, items: Sequence[Encoded], translator: TranslatorModule) -> SoftContext:
        """Return soft tokens (B, K, d_t) and adapters of the condition `bridged`; noise depends on the example alone.

        Raises:
            UserError: if the source has no such layer.
        """
        source = self.pair.read_source(items)
        dtype = next(translator.parameters()).dtype
        source = SourceBatch(states=source.states.to(dtype), mask=source.mask, items=items)
        return translator.context(source, translator(source, self._noise("evaluation", items).to(dtype)))

    @torch.no_grad()
    def _random_soft(self, items: Sequence[Encoded], translator: TranslatorModule) -> SoftContext:
        scale = translator.scale
        if translator.hands_on:
            return translator.context(*self._random_cache(items, scale.gain.dtype))
        noise = scale(self._noise("random soft", items).to(scale.gain.dtype))  # (B, K, d_t)
        return translator.injection(noise)

    def _random_cache(self, items: Sequence[Encoded], dtype: torch.dtype) -> tuple[SourceBatch, Tensor]:
        """Return noise of the size of the source's cache in its place: as much of it as each example has."""
        source = self.pair.read_source(items)
        cache = source.states.to(dtype)  # (B, T, C)
        noise = torch.zeros_like(cache)
        for i, item in enumerate(items):
            count = int(source.mask[i].sum())
            key = ("random soft", self.spec.noise_seed, item.example.id)
            noise[i, :count] = normal((count, cache.shape[-1]), [key])[0].to(cache)
        return source, noise * cache.pow(2).mean(-1, keepdim=True).sqrt()  # (B, T, C)

    def _noise(self, purpose: str, items: Sequence[Encoded]) -> Tensor:
        shape = (self.spec.soft_tokens, self.pair.target.hidden_size)
        keys = [(purpose, self.spec.noise_seed, item.example.id) for item in items]
        return normal(shape, keys).to(self.pair.target.device)  # (B, K, d_t)

    def _choices(self, lm: FrozenLM, examples: Sequence[Example]) -> list[Choices] | None:
        """Return the tokens of each example's choices; None if the task's answers are generated."""
        found = [choices_of(self.pair.task, lm, example) for example in examples]
        return [one for one in found if one is not None] or None

    @property
    def _limits(self) -> Limits:
        return Limits(max_new_tokens=self.spec.max_new_tokens, stops=tuple(self.pair.task.stops))

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
        order = sorted(range(len(rows)), key=lambda i: (len(rows[i].before) + len(rows[i].prompt), i))
        # Workers that hold parts of the model answer the same rows together.
        sharing = self.worker if lm.shards is None else self.worker.data_parallel
        # No worker waits for another's last batch; with graphs as many rows are decoded at once as memory holds.
        rows_each = -(-len(order) // sharing.world)
        most = self.spec.soft_tokens + limits.max_new_tokens
        longest = max((len(row.before) + len(row.prompt) for row in rows), default=0) + most
        graphed = uses_graphs(lm, self.statistics, longest) and not (soft_of is not None and self.spec.writes_cache)
        size = rows_each if graphed else min(self.batch_size, rows_each)
        batches = [order[at : at + size] for at in range(0, len(order), size)]
        stopping = Stopping.of(lm, limits.stops)
        own_outputs: dict[int, Output] = {}
        for number in sharing.share(len(batches)):
            self.on_batch()
            batch = batches[number]
            soft = None
            if soft_of is not None:
                parts = [soft_of(batch[at : at + SOURCE_BATCH]) for at in range(0, len(batch), SOURCE_BATCH)]
                soft = SoftContext.concatenate(parts)
            if choices is not None:
                asked, offered = [rows[i] for i in batch], [choices[i] for i in batch]
                tables = likelihood_tables(lm, asked, soft, offered, self.batch_size)
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
            )
            for i, ids in zip(batch, tokens, strict=True):
                own_outputs[i] = generated(stopping, ids)
        outputs: dict[int, Output] = {}
        for part in sharing.gather(own_outputs):
            outputs.update(part)  # type: ignore[call-overload]
        return [outputs[i] for i in range(len(rows))]
