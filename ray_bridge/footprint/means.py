"""How long a job's texts are on average, and how many there are: from the task's data, or assumed by task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bridge_common.errors import UserError
from ray_bridge.config.spec import JobSpec

if TYPE_CHECKING:  # reading data takes PyTorch, which the plan of a known task does without
    from ray_bridge.tasks.splits import Splits
    from ray_bridge.tasks.task import Example

SAMPLED = 64
"""Examples whose texts are tokenised."""
CHARACTERS = 3.8
"""Characters of a token, where a model's tokenizer is not on this machine."""


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """A task whose data are not read: tokens of its texts, and its examples.

    Attributes:
        exemplar: tokens of one solved example of the few-shot header.
        prompt: of a prompt after the header.
        question: of the question in it, which the bridge reads.
        answer: of an answer.
        train: training examples.
        test: test examples; None if any number can be made.
    """

    exemplar: int
    prompt: int
    question: int
    answer: int
    train: int
    test: int | None


TASKS = {
    "synthetic": Assumed(exemplar=62, prompt=28, question=23, answer=32, train=20_000, test=None),
    "gsm8k": Assumed(exemplar=164, prompt=75, question=62, answer=125, train=7_473, test=1_319),
    "math": Assumed(exemplar=290, prompt=85, question=72, answer=210, train=12_000, test=500),
    "hotpotqa": Assumed(exemplar=1_300, prompt=1_300, question=1_290, answer=6, train=90_447, test=7_405),
    "arc_challenge": Assumed(exemplar=70, prompt=60, question=50, answer=4, train=1_119, test=1_172),
    "openbookqa": Assumed(exemplar=50, prompt=45, question=35, answer=4, train=4_957, test=500),
    "mmlu_redux": Assumed(exemplar=120, prompt=110, question=100, answer=3, train=99_842, test=5_300),
    "ceval": Assumed(exemplar=120, prompt=110, question=100, answer=3, train=260, test=1_346),
}
"""Sizes are those of the data sets that the tasks read (mmlu_redux: about, without rows that were found wrong). Tokens
were counted for gsm8k and hotpotqa (benchmarks/results/encoding.json) and synthetic; the others' are assumed."""
OTHER = Assumed(exemplar=200, prompt=150, question=140, answer=100, train=10_000, test=1_000)
MADE = 1_000  # test examples that the synthetic task makes if the spec sets no number


@dataclass(frozen=True, kw_only=True)
class TextMeans:
    """Mean tokens of a job's texts for one model.

    Attributes:
        header: few-shot header, with BOS.
        prompt: a prompt after the header.
        question: the question in it.
        answer: an answer with its end.
    """

    header: float
    prompt: float
    question: float
    answer: float


@dataclass(frozen=True, kw_only=True)
class Texts:
    """A job's texts.

    Attributes:
        source: means for the source.
        target: means for the target.
        train: training examples, after validation and exemplars were taken.
        test: test examples.
        note: where the numbers are from.
        written: mean tokens of a generated answer; None takes those of the data's own answers.
        items_known: whether the number of test examples is the data's, or published; not assumed.
    """

    source: TextMeans
    target: TextMeans
    train: int
    test: int
    note: str
    written: float | None = None
    items_known: bool = True


def text_means(spec: JobSpec) -> Texts:
    """Return a job's mean lengths and numbers of examples, from its data if they are on this machine.

    The synthetic task's are known, so nothing is made for them.
    """
    if spec.task == "synthetic" or (spec.task in TASKS and spec.task_data is None):
        return assume_means(spec)
    from ray_bridge.footprint.lengths import at_hand
    from ray_bridge.tasks.splits import load_splits

    if not at_hand(spec):
        return assume_means(spec)
    try:
        return measure_means(spec, load_splits(spec))
    except (UserError, OSError):  # what is wrong with the data is said elsewhere
        return assume_means(spec)


def assume_means(spec: JobSpec) -> Texts:
    """Return what is assumed of a task whose data are not read."""
    known = TASKS.get(spec.task)
    task = known or OTHER
    held = spec.num_fewshot + spec.validation_examples
    train = max(1, task.train - held) if spec.train_examples is None else min(spec.train_examples, task.train)
    if task.test is None:
        test = MADE if spec.test_examples is None else spec.test_examples
    else:
        test = task.test if spec.test_examples is None else min(spec.test_examples, task.test)
    means = TextMeans(
        header=1 + spec.num_fewshot * task.exemplar, prompt=task.prompt, question=task.question, answer=task.answer
    )
    note = f"lengths and sizes known of {spec.task}" if known else f"lengths assumed, since {spec.task} is not known"
    return Texts(source=means, target=means, train=train, test=test, note=note, items_known=known is not None)


def measure_means(spec: JobSpec, splits: "Splits") -> Texts:
    """Return the means over examples that are spread evenly over the training and test splits."""
    from ray_bridge.footprint.lengths import tokenizer

    task = splits.task
    examples = [*_spread(splits.test, SAMPLED // 2), *_spread(splits.train, SAMPLED // 2)]
    prompts = [task.prompt(example) for example in examples]
    questions = [example.question for example in examples]
    answers = [task.continuation(example) for example in _spread(splits.train, SAMPLED // 2)]

    def means(name: str, revision: str | None) -> TextMeans:
        count = tokenizer(name, revision) or (lambda text: round(len(text) / CHARACTERS))
        return TextMeans(
            header=1 + count(splits.header),
            prompt=_mean(map(count, prompts)),
            question=_mean(map(count, questions)),
            answer=1 + _mean(map(count, answers)),
        )

    return Texts(
        source=means(spec.source, spec.source_revision),
        target=means(spec.target, spec.target_revision),
        train=len(splits.train),
        test=len(splits.test),
        note=f"measured on {len(examples)} of its texts",
    )


def _spread(examples: "Sequence[Example]", count: int) -> "list[Example]":
    step = max(1, len(examples) // max(1, count))
    return list(examples[::step][:count])


def _mean(values: Any) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else 0.0
