"""Choices by their letters and by their likelihoods."""

import pytest

from ray_bridge.tasks.choices import Likelihood, chosen_text, lettered, likelihood_table, score_likelihoods
from ray_bridge.tasks.task import Example

EXAMPLE = Example(id="x", index=0, question="?", answer="B", gold="B", choices=("one", "two"))


def test_choices_are_lines_with_their_letters() -> None:
    assert lettered(["one", "two"]) == "A. one\nB. two"


def test_a_table_of_likelihoods_has_the_total_and_that_by_character() -> None:
    likelihoods = [Likelihood(total=-4.0, characters=8), Likelihood(total=-1.23456, characters=0)]
    assert likelihood_table(likelihoods) == "A -4.0000 -0.5000\nB -1.2346 -1.2346"


def test_the_likeliest_choice_counts_strictly_and_by_character_flexibly() -> None:
    score = score_likelihoods("A -4.0000 -0.5000\nB -3.0000 -0.7500", EXAMPLE)
    assert score is not None
    assert (score.answer, score.correct, score.flexible, score.valid) == ("B", True, False, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A -4.0000 -0.5000",
        "A -4.0000 -0.5000\nB -3.0000 -0.7500\nC -3.0000 -0.7500",
        "B -4.0000 -0.5000\nA -3.0000 -0.7500",
        "A -4.0000 -0.5000\nB -3.0000 -0.7500\nand so on",
        "B",
    ],
)
def test_a_text_that_is_no_table_of_the_choices_is_none(text: str) -> None:
    assert score_likelihoods(text, EXAMPLE) is None


def test_the_choice_whose_text_the_first_line_is() -> None:
    assert chosen_text("Two.\nor one", ("one", "two")) == "B"
    assert chosen_text("two or one", ("one", "two")) is None
    assert chosen_text("", ("one", "two")) is None
    assert chosen_text("the one", ("one", "One", "two")) is None
