"""Baselines at a number of tokens: what K tokens of text give the target, to read beside what K soft tokens give it.

    question_cut_K      the target with the first K tokens of the question in the question's place
    source_summary_K    the target with the source's summary of at most K tokens in the question's place
    text_bridge_K       the target with its prompt and the first K tokens of the source's answer

Soft tokens without the prompt (`soft_only`) compete with the first two, soft tokens beside the prompt with the last.
Tokens are the target's, which reads them; the source stops at K of its own. None depends on a translator, so each is
decoded once for all trials on a node, like the other baselines.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge_common.metric_names import at_budget
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.answerer import Answerer, Output
from ray_bridge.evaluation.prompt_size import PromptSize
from ray_bridge.inputs.rows import Row
from ray_bridge.tasks.task import Example, Task

SUMMARY_STOPS = ("\n",)  # beside the task's


@dataclass(frozen=True, kw_only=True)
class SourceText:
    """What the source read and wrote before the target answered under a condition.

    Attributes:
        sizes: its prompts.
        tokens: how many tokens it wrote.
        texts: what the target was shown of them.
        seconds: the source's time; None if its outputs were in the cache.
    """

    sizes: Sequence[PromptSize]
    tokens: Sequence[int]
    texts: Sequence[str]
    seconds: float | None = field(default=None, compare=False)


def first_tokens(tokenizer: Any, text: str, tokens: int) -> str:
    """Return the longest beginning of a text that is at most so many tokens of a fast tokenizer when read alone."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    if len(encoded["input_ids"]) <= tokens:
        return text
    end = encoded["offset_mapping"][tokens - 1][1]
    while end and len(tokenizer(text[:end], add_special_tokens=False)["input_ids"]) > tokens:
        end -= 1  # a character of several tokens, or a cut at which the tokenizer splits otherwise
    return text[:end]


def answer_texts(task: Task, examples: Sequence[Example], outputs: Sequence[Output]) -> list[str]:
    """Return what the target is shown of the source's outputs."""
    return [task.answer_text(output["text"], e).strip() for output, e in zip(outputs, examples, strict=True)]


def rows_with(
    worker: Worker, examples: Sequence[Example], texts: Sequence[str], row_of: Callable[[Example, str], Row]
) -> list[Row]:
    """Return `row_of(example, text)` of each example, each made by one worker."""
    return worker.deal(len(examples), lambda numbers: [row_of(examples[i], texts[i]) for i in numbers])


def answer_at_budget(
    answerer: Answerer, baseline: str, tokens: int, examples: Sequence[Example]
) -> tuple[list[Output], SourceText | None]:
    """Answer examples under one of `BUDGETED` at a number of tokens, without scoring them.

    Args:
        answerer: answers rows with source and target.
        baseline: one of `BUDGETED`.
        tokens: K.
        examples: of one split.

    Returns:
        The target's outputs, and what the source read and wrote for them; None if it wrote nothing.
    """
    pair, worker, name = answerer.pair, answerer.worker, at_budget(baseline, tokens)
    tokenizer, encoder = pair.target.tokenizer, pair.encoder
    if baseline == "question_cut":
        texts = [first_tokens(tokenizer, example.question, tokens) for example in examples]
        rows = rows_with(worker, examples, texts, encoder.question_row)
        return answerer.baseline(pair.target, name, rows, examples), None
    if baseline == "source_summary":
        asked = [encoder.summary_row(example, tokens) for example in examples]
        stops = (*SUMMARY_STOPS, *pair.task.stops)
        wrote = answerer.written_by_source(name, asked, tokens, stops)
        texts = [first_tokens(tokenizer, output["text"].strip(), tokens) for output in wrote]
        rows = rows_with(worker, examples, texts, encoder.question_row)
    else:
        asked = [encoder.source_row(item) for item in encoder(examples)]
        limit = min(tokens, pair.spec.max_new_tokens)
        wrote = answerer.written_by_source(name, asked, limit, pair.task.stops, examples)
        texts = [first_tokens(tokenizer, answer, tokens) for answer in answer_texts(pair.task, examples, wrote)]
        rows = rows_with(worker, examples, texts, answerer.text_bridge_row)
    source_text = SourceText(
        sizes=[PromptSize.of(row, None) for row in asked],
        tokens=[output["tokens"] for output in wrote],
        texts=texts,
        seconds=answerer.seconds.pop(f"source of {name}", None),
    )
    return answerer.baseline(pair.target, name, rows, examples), source_text
