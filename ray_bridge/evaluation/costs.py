"""What it takes to answer a question under each condition: tokens, FLOPs and bytes, counted and not timed.

The source's part is counted in: it reads the question for soft tokens, and writes a whole answer for `text_bridge`.
Every number follows from lengths, sizes of the models and the spec, so it is the same on every machine and for every
batch. docs/costs.md has the definitions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from bridge_common.metric_names import BRIDGE_PARAMETERS, TRANSLATED, cost
from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.evaluation.bridge_flops import bridge_flops
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.evaluation.prompt_size import PromptSize
from ray_bridge.evaluation.text_budgets import SourceText
from ray_bridge.footprint.flops import adapter_flops, answer_flops, forward_flops, kv_bytes
from ray_bridge.footprint.model_shape import ModelShape
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.rows import Row
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.shape import shape_of
from ray_bridge.tasks.task import Example


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one question takes under a condition.

    Attributes:
        prefill_tokens: positions that both models read before they write, soft tokens included.
        cached_tokens: positions of few-shot headers before them whose keys and values were there already.
        decoded_tokens: tokens that both models write.
        flops: of both models and the bridge; None if the bridge's are not known.
        source_flops: the source's part.
        target_flops: the target's part, adapters in its layers included.
        bridge_flops: the bridge's part; None if it is not known.
        passed_bytes: what passes from source to target: soft tokens in the models' dtype, or text in UTF-8.
        state_bytes: what would pass instead if the bridge ran beside the target: the question's states.
        kv_bytes: keys and values of both models at the end of the answer, headers included.
        prompt_kv_bytes: keys and values of the target's prompt alone, soft tokens and headers included.
    """

    prefill_tokens: int
    cached_tokens: int
    decoded_tokens: int
    flops: int | None
    source_flops: int
    target_flops: int
    bridge_flops: int | None
    passed_bytes: int
    state_bytes: int
    kv_bytes: int
    prompt_kv_bytes: int


class CostCounter:
    """Counts what questions take under conditions.

    Args:
        pair: the frozen models.
        translator: the trained part, None if no condition has soft tokens.
        items: the examples, encoded.
    """

    def __init__(self, pair: ModelPair, translator: TranslatorModule | None, items: Sequence[Encoded]) -> None:
        self.spec, self.items = pair.spec, items
        self.source, self.target = shape_of(pair.source), shape_of(pair.target)
        self.number = 4 if pair.spec.model_dtype == "float32" else 2  # bytes of a number
        self.adapters = 0 if translator is None else len(translator.injection.adapters)
        self.of_bridge = None if translator is None else bridge_flops(pair, translator, items)
        layer = pair.spec.source_layer
        self.source_layers = layer if layer >= 0 else self.source.layers + 1 + layer

    def costs(
        self,
        condition: str,
        sizes: Mapping[str, Sequence[PromptSize]],
        decoded: Mapping[str, Sequence[int]],
        wrote: SourceText | None,
    ) -> list[Cost]:
        """Return what each question takes under a condition.

        Args:
            condition: its name.
            sizes: prompts by condition.
            decoded: tokens that were generated, likewise.
            wrote: what the source wrote for the target to read; None if nothing.
        """
        costs = []
        for i in range(len(self.items)):
            parts = []
            if wrote is not None:
                parts.append(self._writes(self.source, wrote.sizes[i], wrote.tokens[i]))
                parts.append(_part(passed_bytes=len(wrote.texts[i].encode())))
            if condition in TRANSLATED:
                parts.append(self._translates(i))
            answers = self.source if condition == "source_alone" else self.target
            soft = condition in (*TRANSLATED, "random_soft")
            parts.append(self._writes(answers, sizes[condition][i], decoded[condition][i], soft=soft))
            costs.append(_sum(parts))
        return costs

    def _writes(self, shape: ModelShape, size: PromptSize, decoded: int, *, soft: bool = False) -> Cost:
        """Return the cost of reading a prompt and writing an answer, or of reading it with each of its choices."""
        adapters = self.adapters if soft else 0
        # Keys and values that the injection puts before the text, which every token attends to.
        past = size.cached + (self.spec.soft_tokens if soft and self.spec.injection == "kv_prefix" else 0)
        if size.choices:
            read = [size.read + choice for choice in size.choices]
            flops = sum(
                forward_flops(shape, tokens, past, logits=choice)
                for tokens, choice in zip(read, size.choices, strict=True)
            )
            prefill, longest, passes = sum(read), max(read), len(read)
        else:
            prefill, longest, passes = size.read, size.read + max(0, decoded - 1), max(1, decoded)
            flops = answer_flops(shape, size.read, decoded, past)
        all_tokens = prefill if size.choices else longest
        own = adapter_flops(shape.hidden, self.spec.hidden_size, self.spec.soft_tokens, all_tokens, passes)
        of_source = shape is self.source
        flops += adapters * own
        return _part(
            prefill_tokens=prefill,
            cached_tokens=size.cached,
            decoded_tokens=decoded,
            flops=flops,
            prompt_kv_bytes=0 if of_source else kv_bytes(shape, past + size.read, self.number),
            source_flops=flops if of_source else 0,
            target_flops=0 if of_source else flops,
            kv_bytes=kv_bytes(shape, past + longest, self.number),
        )

    def _translates(self, i: int) -> Cost:
        """Return the cost of reading a question with the source, of its soft tokens, and of passing them."""
        item, spec = self.items[i], self.spec
        of_bridge = None if self.of_bridge is None else self.of_bridge[i]
        if spec.bridge == "constant":  # no source: its learned tokens are the target's own
            return _part(flops=of_bridge, bridge_flops=of_bridge)
        size = PromptSize.of(Row(before=(), prompt=item.source_ids, header=item.source_header), None)
        steps, states = spec.latent_steps, item.question_span[1] - item.question_span[0]
        if steps:  # all layers, for the prompt and for each step, whose keys and values the source has to hold
            read, states = len(item.source_ids), steps
            flops = forward_flops(self.source, read + steps)
            held = read + steps
        elif spec.bridge == "c2c":  # all layers, and what passes is what the bridge reads
            read, held = len(item.source_ids), len(item.source_ids)
            flops = forward_flops(self.source, read)
        else:
            read, held = size.read, size.cached
            flops = forward_flops(self.source, read, size.cached, layers=self.source_layers)
        passed = spec.soft_tokens * self.target.hidden * self.number
        state_bytes = states * self.source.hidden * self.number
        if spec.bridge == "c2c" and item.alignment is not None:
            whole = kv_bytes(self.source, len(item.alignment.tokens), self.number)
            # Layers are paired from the last, so only as many of the source's are read as the target has.
            passed = state_bytes = whole * min(self.source.layers, self.target.layers) // self.source.layers
        return _part(
            prefill_tokens=read,
            cached_tokens=0 if steps or spec.bridge == "c2c" else size.cached,
            decoded_tokens=steps,
            flops=None if of_bridge is None else flops + of_bridge,
            source_flops=flops,
            bridge_flops=of_bridge,
            passed_bytes=passed,
            state_bytes=state_bytes,
            kv_bytes=kv_bytes(self.source, held, self.number),
        )


def count_costs(
    evaluator: Evaluator,
    translator: TranslatorModule,
    examples: Sequence[Example],
    samples: Sequence[Mapping[str, Any]],
) -> dict[str, float]:
    """Return the mean cost of a question under every condition that was just evaluated, by metric name.

    Args:
        evaluator: which has evaluated the examples under these conditions.
        translator: the trained part.
        examples: of one split.
        samples: their rows of samples.jsonl.
    """
    counter = CostCounter(evaluator.pair, translator, evaluator.pair.encoder(examples))
    decoded = {condition: [row[f"{condition}_tokens"] for row in samples] for condition in evaluator.sizes}
    wrote = dict(evaluator.source_texts)
    if "text_bridge" in evaluator.sizes:  # the source's whole answer, which `source_alone` decoded
        wrote["text_bridge"] = SourceText(
            sizes=evaluator.sizes["source_alone"], tokens=decoded["source_alone"], texts=evaluator.written
        )
    costs = {
        condition: counter.costs(condition, evaluator.sizes, decoded, wrote.get(condition))
        for condition in evaluator.sizes
    }
    return cost_metrics(costs) | {BRIDGE_PARAMETERS: sum(p.numel() for p in translator.parameters())}


def cost_metrics(costs: Mapping[str, Sequence[Cost]]) -> dict[str, float]:
    """Return the mean of each number by its metric's name, `cost/QUANTITY/CONDITION`; those not known are left out."""
    metrics = {}
    for condition, questions in costs.items():
        for field in fields(Cost):
            values = [getattr(one, field.name) for one in questions]
            if values and None not in values:
                metrics[cost(field.name, condition)] = sum(values) / len(values)
    return metrics


def _part(**known: Any) -> Cost:
    return Cost(**({field.name: 0 for field in fields(Cost)} | known))


def _sum(parts: Sequence[Cost]) -> Cost:
    totals: dict[str, Any] = {}
    for field in fields(Cost):
        values = [getattr(part, field.name) for part in parts]
        totals[field.name] = None if None in values else sum(values)
    return Cost(**totals)
