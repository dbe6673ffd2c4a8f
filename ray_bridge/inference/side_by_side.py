"""Answer one question under several conditions, decoding once what they share."""

import time
from collections.abc import Sequence

from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.evaluation.answerer import Output
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.tasks.task import Example

READ_THE_SOURCE = frozenset({"source_alone", "text_bridge"})
"""Conditions that show what the source writes."""


def outputs_by_condition(
    evaluator: Evaluator,
    translator: TranslatorModule,
    example: Example,
    other: Example | None,
    conditions: Sequence[str],
) -> dict[str, tuple[Output, float]]:
    """Return one question's output and seconds under each condition; the source decodes once.

    The seconds of `text_bridge` include those in which the source wrote the answer that it pastes.

    Args:
        evaluator: decodes.
        translator: makes the soft tokens.
        example: the question.
        other: gives `shuffled_soft` its soft tokens; None if there is none.
        conditions: some of `CONDITIONS`.

    Raises:
        UserError: for an unknown condition, or `shuffled_soft` without another example.
    """
    source: list[Output] | None = None
    source_seconds = 0.0
    results: dict[str, tuple[Output, float]] = {}
    for condition in conditions:
        if source is None and condition in READ_THE_SOURCE:
            began = time.perf_counter()
            source = evaluator.outputs("source_alone", [example], translator)
            source_seconds = time.perf_counter() - began
        if source is not None and condition == "source_alone":
            results[condition] = source[0], source_seconds
            continue
        examples = [example, other] if condition == "shuffled_soft" and other is not None else [example]
        began = time.perf_counter()
        output = evaluator.outputs(condition, examples, translator, source)[0]
        seconds = time.perf_counter() - began
        results[condition] = output, seconds + (source_seconds if condition == "text_bridge" else 0.0)
    return results
