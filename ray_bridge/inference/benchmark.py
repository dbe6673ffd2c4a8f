"""Time a trained translator on test questions, condition by condition, and count what each answer takes.

Each batch is decoded twice for each condition: to its first token, and to its end. Costs that are counted come from the
same questions, so that a table has both.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Any

import torch

from bridge_common.errors import UserError
from bridge_common.metric_names import (
    BRIDGE_BYTES,
    CONDITIONS,
    COST,
    SECONDS_A_QUESTION,
    accuracy,
    budgeted,
    cost,
)
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.answerer import Output
from ray_bridge.evaluation.costs import count_costs
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.evaluation.metrics import metrics_of
from ray_bridge.inference.saved import sampled_example
from ray_bridge.inference.translator import Translator
from ray_bridge.tasks.task import Example

WARM_UP = 1  # batches that are decoded before the clock starts: kernels are chosen, graphs captured, headers read
DECODED = 1.5  # what counting the costs adds to timing them: the whole answers are decoded once more


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one condition, as medians over batches.

    Attributes:
        first_token: from the question to the answer's first token; the source's part is in it, for `text_bridge` the
            whole of the source's answer, at a number of tokens the whole of what it writes.
        total: from the question to the answer's end.
    """

    first_token: float
    total: float


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What was measured.

    Attributes:
        questions: how many questions were answered.
        batch_size: how many of them at once.
        device: where: the GPU's name, or cpu.
        threads: threads of a CPU, 0 on a GPU.
        conditions: what was answered under: those of every evaluation, then those at the trial's `text_budgets`.
        timings: by condition; `shuffled_soft` takes what `bridged` does and is not timed for one question alone.
        metrics: counted costs and accuracy on these questions, by metric name.
    """

    questions: int
    batch_size: int
    device: str
    threads: int
    conditions: tuple[str, ...]
    timings: dict[str, Timing]
    metrics: dict[str, float]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a condition: its counted costs and its seconds, for tables."""
        rows = []
        for condition in self.conditions:
            suffix = f"/{condition}"
            counted = {
                name.removeprefix(COST).removesuffix(suffix): value
                for name, value in self.metrics.items()
                if name.startswith(COST) and name.endswith(suffix)
            }
            timing = self.timings.get(condition)
            seconds = {
                "first_token_seconds": None if timing is None else timing.first_token,
                SECONDS_A_QUESTION: None if timing is None else timing.total / self.batch_size,
            }
            rows.append({"condition": condition, "accuracy": self.metrics[accuracy(condition)], **counted, **seconds})
        return rows

    def record(self) -> dict[str, Any]:
        """Return all of it as plain values, timings under the names of metrics."""
        timings = {
            name: value
            for condition, timing in self.timings.items()
            for name, value in (
                (cost("first_token_seconds", condition), timing.first_token),
                (cost("answer_seconds", condition), timing.total),
                (cost(SECONDS_A_QUESTION, condition), timing.total / self.batch_size),
            )
        }
        about = {"questions": self.questions, "batch_size": self.batch_size, "device": self.device}
        return {**about, "threads": self.threads, "metrics": self.metrics, "timings": timings}


def benchmark(
    translator: Translator,
    items: int = 16,
    batch_size: int = 1,
    *,
    conditions: Sequence[str] | None = None,
    graphs: bool = True,
    say: Callable[[str], object] = lambda line: None,
) -> Benchmark:
    """Decode test questions again under every condition, and time them.

    Args:
        translator: of a finished trial, whose test questions are read as its job read them.
        items: questions to answer.
        batch_size: questions that are answered together; with 1, times are those of a question alone.
        conditions: under which they are answered; None for all that the trial's final evaluation had.
            `text_bridge` needs `source_alone` before it.
        graphs: whether a GPU decodes with CUDA graphs, which are captured again for every batch: for a question alone
            that may take longer than its answer.
        say: takes a line that says, after the first batch, how many minutes it takes, if that is more than one.

    Raises:
        UserError: if there are too few test questions.
    """
    known = translator.splits.test or [sampled_example(row) for row in translator.saved.samples]
    examples = list(known[: max(items, 2)])
    if len(examples) < 2:
        raise UserError(f"{translator.saved.folder} has no test questions to decode again: name a trial's folder")
    batch_size = min(batch_size, len(examples))
    batches = [examples[at : at + batch_size] for at in range(0, len(examples) - batch_size + 1, batch_size)]
    if conditions is None:
        conditions = (*CONDITIONS, *budgeted(translator.spec.text_budgets))
    timer = _Timer(translator, conditions, batch_size, graphs=graphs)
    began = time.perf_counter()
    for batch in batches[:WARM_UP]:
        timer.measure(batch)
    minutes = DECODED * len(batches) / WARM_UP * (time.perf_counter() - began) / 60
    if minutes > 1:
        say(f"{len(examples)} questions under {len(conditions)} conditions: {ceil(minutes)} min if all take as long")
    measured = [timer.measure(batch) for batch in batches]
    timings = {
        condition: Timing(
            first_token=median(one[condition].first_token for one in measured),
            total=median(one[condition].total for one in measured),
        )
        for condition in measured[0]
    }
    device = translator.pair.target.device
    on_gpu = device.type == "cuda"
    return Benchmark(
        questions=len(batches) * batch_size,
        batch_size=batch_size,
        device=torch.cuda.get_device_name(device) if on_gpu else device.type,
        threads=0 if on_gpu else torch.get_num_threads(),
        conditions=tuple(conditions),
        timings=timings,
        metrics=_counted(translator, conditions, examples, batch_size),
    )


def _counted(
    translator: Translator, conditions: Sequence[str], examples: Sequence[Example], batch_size: int
) -> dict[str, float]:
    evaluator = _evaluator(translator, batch_size)
    samples = evaluator.evaluate(examples, translator.module, conditions)
    costs = count_costs(evaluator, translator.module, examples, samples)
    accuracies = metrics_of(samples, conditions, [])
    known = {accuracy(condition): accuracies[accuracy(condition)] for condition in conditions}
    return known | costs | {BRIDGE_BYTES: translator.saved.weights.stat().st_size}


def _evaluator(translator: Translator, batch_size: int, answer_limit: int | None = None) -> Evaluator:
    worker = Worker(device=translator.pair.target.device)
    evaluator = Evaluator(translator.pair, worker, batch_size, NodeCache(None))
    evaluator.answer_limit = answer_limit
    return evaluator


class _Timer:
    """Decodes batches to their first token and to their end."""

    def __init__(self, translator: Translator, conditions: Sequence[str], batch_size: int, *, graphs: bool) -> None:
        self.module, self.device = translator.module, translator.pair.target.device
        # One question alone has no other one whose soft tokens it could be given.
        self.conditions = [name for name in conditions if batch_size > 1 or name != "shuffled_soft"]
        self.whole, self.first = _evaluator(translator, batch_size), _evaluator(translator, batch_size, 1)
        for evaluator in (self.whole, self.first) if not graphs else ():
            for lm in (translator.pair.source, translator.pair.target):
                evaluator.statistics.uncapturable[lm] = "timed without graphs"

    def measure(self, batch: Sequence[Example]) -> dict[str, Timing]:
        """Return the seconds of a batch by condition."""
        timings: dict[str, Timing] = {}
        written: list[Output] = []
        for condition in self.conditions:
            source = written if condition == "text_bridge" else None
            first, _ = self._seconds(self.first, condition, batch, source)
            total, outputs = self._seconds(self.whole, condition, batch, source)
            before = 0.0
            if condition == "source_alone":
                written = outputs
            elif condition == "text_bridge":
                before = timings["source_alone"].total
            timings[condition] = Timing(first_token=before + first, total=before + total)
        return timings

    def _seconds(
        self, evaluator: Evaluator, condition: str, batch: Sequence[Example], written: list[Output] | None
    ) -> tuple[float, list[Output]]:
        self._wait()
        began = time.perf_counter()
        outputs = evaluator.outputs(condition, batch, self.module, written)
        self._wait()
        return time.perf_counter() - began, outputs

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
