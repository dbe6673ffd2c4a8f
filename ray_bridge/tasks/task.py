"""The interface of a task: its examples, its prompt, and its scoring."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

from ray_bridge.config.spec import JobSpec


@dataclass(frozen=True, kw_only=True)
class Example:
    """One question.

    Attributes:
        id: stable name, the same in every run; it seeds the example's noise.
        index: index of its row in the split.
        question: what is asked.
        answer: the worked solution in the data's own format, for training.
        gold: the final answer that is scored.
        groups: names under which accuracy is reported separately, e.g. {"words": "transfer"}.
        cluster: name of the group of examples that are not independent of this one, such as questions made from one
            template; standard errors go by cluster. Empty if it is independent.
        choices: the answers to choose from, whose letters are A, B, C, ...; none for questions without choices.
    """

    id: str
    index: int
    question: str
    answer: str
    gold: str
    groups: Mapping[str, str] = field(default_factory=dict)
    cluster: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Score:
    """How one output was scored.

    Attributes:
        answer: what the strict rule read from the output; None if the output is not in the task's format.
        correct: whether the answer is right under the strict rule.
        flexible: whether it is right under the flexible rule, which takes the answer from anywhere in the output.
        valid: whether the output has the answer format at all.
        f1: token F1 with gold, for tasks that have one.
        stopped: why scoring was stopped at a limit of time or memory, which counts as wrong; None if it was not.
    """

    answer: str | None
    correct: bool
    flexible: bool
    valid: bool
    f1: float | None = None
    stopped: str | None = None


def with_written_answer(example: Example, written: str) -> Example:
    """Return an example whose question ends with another reader's answer, as the condition `text_bridge` shows it."""
    return replace(example, question=f"{example.question}\nAnother reader's answer: {written}")


SUMMARY_CUE = (
    "\nA summary of the question in at most {tokens} tokens, with every number and name that its answer needs:"
)


def summary_prompt(task: "Task", example: Example, tokens: int) -> str:
    """Return what a model continues with a summary of the question of at most so many tokens.

    A task whose models know another way of asking names it as `summary_cue`, in which `{tokens}` is the number.
    """
    cue: str = getattr(task, "summary_cue", SUMMARY_CUE)
    return f"Question: {example.question}{cue.replace('{tokens}', str(tokens))}"


class Task(Protocol):
    """A task that a translator is trained on and measured with.

    A class may also name the `max_new_tokens` and `num_fewshot` that its jobs get by default, as class attributes; 256
    and 0 if it does not; and `summary_cue`, by which a model is asked for a summary of a question (`summary_prompt`).
    """

    name: str

    @classmethod
    def from_spec(cls, spec: JobSpec) -> Self:
        """Make the task that a job asks for."""

    instruction: str
    """The short instruction that stands in for the prompt under `soft_only`."""

    stops: tuple[str, ...]
    """Texts that end an output, such as the opening of a further exemplar that a model makes up."""

    def train(self) -> Sequence[Example]:
        """Return the training examples, from which validation examples and exemplars are also taken."""

    def test(self) -> Sequence[Example]:
        """Return the test examples."""

    def header(self, exemplars: Sequence[Example]) -> str:
        """Return the few-shot part of a prompt, empty without exemplars."""

    def prompt(self, example: Example) -> str:
        """Return the question with its cue, which the answer continues."""

    def continuation(self, example: Example) -> str:
        """Return the answer as it continues the prompt."""

    def answer_text(self, output: str, example: Example) -> str:
        """Return the part of an output that is the answer: what stands before the first of `stops`."""

    def continuations(self, example: Example) -> Sequence[str] | None:
        """Return the continuations of a prompt of which the likeliest is the answer; None if answers are generated."""

    def score(self, output: str, example: Example) -> Score:
        """Score an output; several threads may call it at the same time."""
