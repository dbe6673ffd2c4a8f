"""Evaluate the selected checkpoint on the test split under every condition, and write what is reported."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge_common.event_log import EventLog
from bridge_common.files import write_json, write_jsonl
from bridge_common.metric_names import BRIDGE_BYTES, CONDITIONS, SECONDS_A_QUESTION, budgeted, cost
from bridge_common.trial_files import SELECTED
from bridge_common.trial_folder import TrialFolder
from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.evaluation.costs import count_costs
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.evaluation.metrics import metrics_of
from ray_bridge.evaluation.selection import CHECKPOINT, load_selected
from ray_bridge.tasks.task import Example


@dataclass(frozen=True, kw_only=True)
class FinalEvaluation:
    """What the selected checkpoint reaches on the test split.

    Attributes:
        selected_step: the step it was taken from.
        samples: one row an example, as in samples.jsonl.
        metrics: numbers by name, as in metrics.json.
        timings: seconds that a worker spent for each question in the evaluation's batches, by metric name; apart, since
            they differ from run to run.
        seconds: time of the whole evaluation.
    """

    selected_step: int
    samples: list[dict[str, Any]]
    metrics: dict[str, float]
    timings: dict[str, float]
    seconds: float

    def write(self, folder: Path, events: EventLog, step: int) -> None:
        """Write samples.jsonl and metrics.json into a trial's folder and record the metrics at a step."""
        trial = TrialFolder(folder)
        write_jsonl(trial.samples_file, self.samples)
        write_json(trial.metrics_file, self.metrics)
        events.metrics(step, self.metrics)
        for name in (trial.samples_file.name, trial.metrics_file.name, CHECKPOINT):
            events.artifact(name)


def evaluate_selected(
    evaluator: Evaluator, translator: TranslatorModule, folder: Path, examples: Sequence[Example]
) -> FinalEvaluation:
    """Load the selected checkpoint and evaluate it under every condition, `text_budgets` included.

    Every worker gets the whole result.

    Args:
        evaluator: decodes and scores, together with its peers on other workers.
        translator: in evaluation's arithmetic; its weights are replaced by the selected ones.
        folder: the trial's folder, in which the checkpoint was saved.
        examples: the test split.
    """
    began = time.perf_counter()
    selected_step = load_selected(folder / SELECTED, translator)
    conditions = (*CONDITIONS, *budgeted(evaluator.spec.text_budgets))
    samples = evaluator.evaluate(examples, translator, conditions)
    metrics = metrics_of(samples, conditions, list(examples[0].groups))
    metrics |= _input_lengths(evaluator, examples) | count_costs(evaluator, translator, examples, samples)
    metrics[BRIDGE_BYTES] = (folder / CHECKPOINT).stat().st_size
    return FinalEvaluation(
        selected_step=selected_step,
        samples=samples,
        metrics=metrics,
        timings=_timings(evaluator, len(examples)),
        seconds=time.perf_counter() - began,
    )


def _timings(evaluator: Evaluator, questions: int) -> dict[str, float]:
    """Return a worker's seconds for each question; of conditions whose outputs were in the cache, none."""
    seconds = dict(evaluator.seconds)
    for name, wrote in evaluator.source_texts.items():  # what the source wrote is a part of it
        if name in seconds and wrote.seconds is None:
            del seconds[name]
        elif name in seconds:
            seconds[name] += wrote.seconds or 0.0
    if "text_bridge" in seconds:
        written = seconds.get("source_alone")
        seconds = {name: value for name, value in seconds.items() if name != "text_bridge" or written is not None}
        if written is not None:
            seconds["text_bridge"] += written
    each = evaluator.worker.world / questions
    return {cost(SECONDS_A_QUESTION, name): round(value * each, 6) for name, value in seconds.items()}


def _input_lengths(evaluator: Evaluator, examples: Sequence[Example]) -> dict[str, float]:
    """Mean tokens of the text-only prompt, and under `soft_only` the tokens of the instruction in its place."""
    encoder = evaluator.pair.encoder
    rows = [item.text_row for item in encoder(examples)]
    lengths = {"prompt_tokens": sum(len(row.prompt) for row in rows) / len(rows)}
    if evaluator.spec.layout == "soft_only":
        lengths["instruction_tokens"] = len(encoder(examples[:1])[0].row.prompt)
    return lengths
