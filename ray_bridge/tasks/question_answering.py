"""What tasks of questions and answers share: the prompt of lm-evaluation-harness, the few-shot header, their data."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Self

from ray_bridge.config.spec import JobSpec
from ray_bridge.tasks.data.folder import check_folder, folder_rows, unread_files
from ray_bridge.tasks.data.hub import HubData, hub_commit
from ray_bridge.tasks.data.hub_rows import hub_rows
from ray_bridge.tasks.data.repeated import repeated_questions
from ray_bridge.tasks.data.rows import DataRow, Loaded, load_examples
from ray_bridge.tasks.scoring import cut
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

    def train(self) -> Sequence[Example]:
        """Return the examples of the training split."""
        raise TypeError(f"{type(self).__name__} does not say where its examples come from")

    def test(self) -> Sequence[Example]:
        """Return the examples of the test split."""
        raise TypeError(f"{type(self).__name__} does not say where its examples come from")

    def notes(self) -> list[str]:
        """Return lines on the data that a user should know, such as rows that were left out."""
        return []

    def header(self, exemplars: Sequence[Example]) -> str:
        """Return the few-shot part of a prompt."""
        return "".join(f"{self.prompt(e)}{self.continuation(e)}\n\n" for e in exemplars)

    def prompt(self, example: Example) -> str:
        """Return the question with its cue."""
        return f"Question: {example.question}\nAnswer:"

    def continuation(self, example: Example) -> str:
        """Return the answer as it continues the prompt."""
        return f" {example.answer}"

    def answer_text(self, output: str, example: Example) -> str:
        """Return what stands in an output before the first stop text."""
        return cut(output, self.stops)

    def gold_of(self, text: str, example: Example) -> str:
        """Return the gold answer that a file of outputs gives, in the form that `score` compares with.

        Raises:
            RowError: if it cannot be one.
        """
        return text

    def continuations(self, example: Example) -> list[str] | None:
        """Return None: answers are generated, not chosen by their likelihood."""
        return None


class HubTask(QuestionTask):
    """A task whose examples come from the hub, or from a folder of data; subclasses make an example of a row."""

    hub = HubData(name="")
    """Where the data are if no folder is given."""

    unusable = 0.0
    """Largest share of rows without a usable answer that are left out instead of refused."""

    def __init__(self, data: str | None = None, revision: str | None = None) -> None:
        """Initialise the hub task.

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

    @classmethod
    def hub_name(cls, spec: JobSpec) -> str | None:
        """Return the name of the hub's data set that a job is measured on; None if it reads a folder."""
        return cls.hub.name if spec.task_data is None else None

    @classmethod
    def pinned(cls, spec: JobSpec) -> JobSpec:
        """Return a job with the commit of the hub's data set that it would read now, if it reads no folder.

        Raises:
            UserError: if the hub has no such data set, or neither the hub nor this machine's cache answers.
        """
        if spec.task_data is not None:
            return spec
        return spec.replace(task_revision=hub_commit(cls.hub.name, spec.task_revision))

    def example(self, row: DataRow, split: str, index: int) -> Example:
        """Return the example of a row.

        Raises:
            RowError: if the row cannot become one.
        """
        raise TypeError(f"{type(self).__name__} does not say what the example of a row is")

    def train(self) -> Sequence[Example]:
        """Return the examples of the training split."""
        return self._train.examples

    def test(self) -> Sequence[Example]:
        """Return the examples of the test split."""
        return self._test.examples

    def notes(self) -> list[str]:
        """Return one line for each split from which rows were left out, for repeated questions, for unread files."""
        skipped = [loaded.skipped for loaded in (self._train, self._test)]
        repeated = [f"{self.data or self.name}: {line}" for line in repeated_questions(self.train(), self.test())]
        lines = [*skipped, *repeated, unread_files(self.data)]
        return [line for line in lines if line]

    @cached_property
    def _train(self) -> Loaded:
        return self._load("train")

    @cached_property
    def _test(self) -> Loaded:
        return self._load("test")

    def _load(self, split: str) -> Loaded:
        return load_examples(self._rows(split), lambda row, index: self.example(row, split, index), self.unusable)

    def _rows(self, split: str) -> Iterator[DataRow]:
        if self.data is not None:
            return folder_rows(self.data, split, self.hub)
        return hub_rows(self.hub, split, self.revision)
