"""What tasks of the form question and answer share: the prompt of lm-evaluation-harness and the few-shot header."""

from collections.abc import Sequence
from functools import cached_property
from typing import Self

from ray_bridge.config.spec import JobSpec
from ray_bridge.tasks.datasets import check_folder
from ray_bridge.tasks.task import Example


class QuestionTask:
    """`Question: ...` / `Answer:` with the answer as its continuation; subclasses say where examples come from."""

    name = ""
    instruction = "Solve the problem above.\nAnswer:"
    stops: tuple[str, ...] = ("\nQuestion:", "\nQ:")

    @classmethod
    def from_spec(cls, spec: JobSpec) -> Self:
        """Make the task that a job asks for."""
        return cls()

    def _load(self, split: str) -> list[Example]:
        raise TypeError(f"{type(self).__name__} does not say where its examples come from")

    @cached_property
    def _train(self) -> list[Example]:
        return self._load("train")

    @cached_property
    def _test(self) -> list[Example]:
        return self._load("test")

    def train(self) -> Sequence[Example]:
        return self._train

    def test(self) -> Sequence[Example]:
        return self._test

    def header(self, exemplars: Sequence[Example]) -> str:
        return "".join(f"{self.prompt(e)}{self.continuation(e)}\n\n" for e in exemplars)

    def prompt(self, example: Example) -> str:
        return f"Question: {example.question}\nAnswer:"

    def continuation(self, example: Example) -> str:
        return f" {example.answer}"


class HubTask(QuestionTask):
    """A task whose examples come from the hub, or from a folder with train.jsonl and test.jsonl."""

    def __init__(self, data: str | None = None, revision: str | None = None) -> None:
        """
        Args:
            data: the folder, or None for the hub.
            revision: revision of the hub's data set.

        Raises:
            UserError: if the folder lacks a split.
        """
        check_folder(data)
        self.data, self.revision = data, revision

    @classmethod
    def from_spec(cls, spec: JobSpec) -> Self:
        """Make the task on the data that a job asks for."""
        return cls(spec.task_data, spec.task_revision)
