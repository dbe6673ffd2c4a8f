"""The synthetic problems as a task: the same prompt and score as GSM8K, with accuracy by kind of number word."""

from collections.abc import Sequence
from functools import cached_property

from ray_bridge.tasks.base import Example, Score
from ray_bridge.tasks.numbers import cut, score_number
from ray_bridge.tasks.synthetic import Split, make_examples, prompt

_DATA_SEED = 11  # the data set is one and the same for every run


class SyntheticTask:
    """Generated problems; some hold number words that only the embedded source knows (see ray_bridge/pair)."""

    name = "synthetic"
    instruction = "Solve the problem above.\nAnswer:"
    stops: tuple[str, ...] = ("\nQuestion:",)

    def __init__(self, train_examples: int, test_examples: int) -> None:
        self.train_examples, self.test_examples = train_examples, test_examples

    @cached_property
    def _train(self) -> list[Example]:
        return _examples("train", self.train_examples)

    @cached_property
    def _test(self) -> list[Example]:
        return _examples("test", self.test_examples)

    def train(self) -> Sequence[Example]:
        return self._train

    def test(self) -> Sequence[Example]:
        return self._test

    def header(self, exemplars: Sequence[Example]) -> str:
        return "".join(f"{self.prompt(e)}{self.continuation(e)}\n\n" for e in exemplars)

    def prompt(self, example: Example) -> str:
        return prompt(example.question)

    def continuation(self, example: Example) -> str:
        return f" {example.answer}"

    def score(self, output: str, example: Example) -> Score:
        return score_number(cut(output, self.stops), example.gold)


def _examples(split: Split, count: int) -> list[Example]:
    return [
        Example(
            id=item.id,
            index=index,
            question=item.question,
            answer=item.answer,
            gold=item.gold,
            groups={"words": item.words},
        )
        for index, item in enumerate(make_examples(split, count, _DATA_SEED))
    ]
