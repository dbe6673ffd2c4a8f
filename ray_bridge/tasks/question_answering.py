"""What tasks of the form question and answer share: the prompt of lm-evaluation-harness and the few-shot header."""

from collections.abc import Sequence
from functools import cached_property

from ray_bridge.tasks.task import Example


class QuestionTask:
    """`Question: ...` / `Answer:` with the answer as its continuation; subclasses say where examples come from."""

    name = ""
    instruction = "Solve the problem above.\nAnswer:"
    stops: tuple[str, ...] = ("\nQuestion:", "\nQ:")

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
