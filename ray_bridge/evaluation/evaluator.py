"""Decode and score examples under every condition: the bridged one, its baselines and its controls.

    bridged         the target with the example's own soft tokens: what the translator reaches
    target_alone    the target with the text alone: what it knows by itself
    source_alone    the source with the text alone: what there is to transfer
    text_bridge     the target with the source's written answer pasted into its prompt: what plain text transfers
    shuffled_soft   the target with another example's soft tokens: whether they are about this question
    random_soft     the target with noise of the same size: whether any soft tokens would do

`text_budgets` adds baselines at a number of tokens of text: see `ray_bridge.evaluation.text_budgets`.

Outputs are a function of the weights, the spec and the example. Batches are formed over the whole split and shared out
among the workers, noise is seeded by the example, and under eval_dtype=float64 or batch_invariant=true rounding changes
no text with the batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bridge_common.errors import UserError
from bridge_common.metric_names import CONDITIONS, budget_of
from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.answerer import Answerer, Output
from ray_bridge.evaluation.text_budgets import SourceText, answer_at_budget, answer_texts, rows_with
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.source_batch import SourceBatch
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.noise import normal
from ray_bridge.tasks.score_outputs import score_on_workers
from ray_bridge.tasks.task import Example, Score


class Evaluator(Answerer):
    """Decodes greedily with a pair of frozen models and scores what they wrote.

    Attributes, beside those of `Answerer`:
        written: what the source wrote for each example of the last call of `text_bridge`.
        source_texts: what the source read and wrote in the last call of a condition at a number of tokens.
    """

    def __init__(self, pair: ModelPair, worker: Worker, batch_size: int, cache: NodeCache) -> None:
        super().__init__(pair, worker, batch_size, cache)
        self.written: list[str] = []
        self.source_texts: dict[str, SourceText] = {}

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
            outputs, source_text = answer_at_budget(self, *budget, examples)
            if source_text is not None:
                self.source_texts[condition] = source_text
            return outputs
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
