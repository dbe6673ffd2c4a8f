"""The synthetic problems as a task: the same prompt and score as GSM8K, with accuracy by kind of number word."""

from collections.abc import Sequence
from functools import cached_property
from typing import Self

from bridge_common.errors import UserError
from ray_bridge.config.spec import JobSpec
from ray_bridge.tasks.question_answering import QuestionTask
from ray_bridge.tasks.scoring import gold_number, score_number
from ray_bridge.tasks.synthetic.problems import SyntheticItem, make_examples
from ray_bridge.tasks.task import Example, Score

_DATA_SEED = 11  # the data set is one and the same for every run
_TRAINING_WORD_SHARE = 0.75  # only items with words teach a bridge; the test split has the generator's own share


class SyntheticTask(QuestionTask):
    """Generated problems; some hold number words that only the embedded source knows (see ray_bridge/embedded_pair)."""

    name = "synthetic"
    max_new_tokens = 72
    num_fewshot = 0
    summary_cue = "\nNumerals:"  # the embedded source knows no other: it then restates the question in numerals

    def __init__(self, train_examples: int, test_examples: int) -> None:
        self.train_examples, self.test_examples = train_examples, test_examples

    @classmethod
    def from_spec(cls, spec: JobSpec) -> Self:
        """Make the task with as many examples as a job uses.

        Raises:
            UserError: if the job names a folder of data.
        """
        if spec.task_data is not None:
            raise UserError("task_data has no meaning for the synthetic task, which is generated: add --task gsm8k")
        wanted = (spec.train_examples or 20_000) + spec.validation_examples + spec.num_fewshot
        return cls(train_examples=wanted, test_examples=spec.test_examples or 1000)

    def score(self, output: str, example: Example) -> Score:
        """Score the number after `####` strictly, the last number flexibly."""
        return score_number(self.answer_text(output, example), example.gold)

    def gold_of(self, text: str, example: Example) -> str:
        """Return the number of a gold answer or solution in its one written form."""
        return gold_number(text)

    def train(self) -> Sequence[Example]:
        """Return the training problems, most of which hold number words."""
        return self._train

    def test(self) -> Sequence[Example]:
        """Return the test problems, with the generator's own share of number words."""
        return self._test

    @cached_property
    def _train(self) -> list[Example]:
        return _examples(make_examples("train", self.train_examples, _DATA_SEED, word_share=_TRAINING_WORD_SHARE))

    @cached_property
    def _test(self) -> list[Example]:
        return _examples(make_examples("test", self.test_examples, _DATA_SEED))


def _examples(items: Sequence[SyntheticItem]) -> list[Example]:
    return [
        Example(
            id=item.id,
            index=index,
            question=item.question,
            answer=item.answer,
            gold=item.gold,
            groups={"words": item.words},
            # Questions with one number word are right or wrong together, if the word is known or not.
            cluster=f"word {item.word_values[0]}" if item.word_values else "",
        )
        for index, item in enumerate(items)
    ]
