"""equivalent_answers.txt: gold answers in the styles of MATH, with answers that equal them and answers that do not."""

from itertools import groupby
from pathlib import Path

import pytest

from ray_bridge.tasks.math_equivalence import equivalent

BLOCKS = [
    list(lines)
    for blank, lines in groupby(
        Path(__file__).with_name("equivalent_answers.txt").read_text(encoding="utf-8").splitlines(), lambda s: not s
    )
    if not blank
]


@pytest.mark.slow
def test_answers_equal_gold_where_the_file_says_so() -> None:
    wrong = []
    for gold, *lines in BLOCKS:
        for line in lines:
            sign, answer = line.strip().split(" ", 1)
            if equivalent(answer, gold) is not (sign == "="):
                wrong.append(f"{answer} {sign} {gold}")
    assert not wrong, "\n".join(wrong)


def test_the_file_holds_both_verdicts() -> None:
    signs = [line.strip()[0] for block in BLOCKS for line in block[1:]]
    assert min(signs.count("="), signs.count("≠")) > 200
