"""Every branch has a range of accuracy, and their chances are read without the branches' recorded names."""

from tune_spaces.gate.decision import Branch
from tune_spaces.gate.ranges import RANGES, chances_in_words


def test_every_branch_has_a_range() -> None:
    assert list(RANGES) == [str(branch) for branch in Branch]


def test_chances_name_the_ranges() -> None:
    chances = {"pass": 0.86, "attribute": 0.13, "attribute_all": 0.01}
    said = chances_in_words(chances, passes=0.7, attribute=0.65)
    assert said == "86% for 70% or more, 13% for 65% to below 70%, 1% for below 65%"
