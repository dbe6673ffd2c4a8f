"""GSM8K's two scores against the two filters of lm-evaluation-harness 0.4 (lm_eval/tasks/gsm8k/gsm8k.yaml, version 3).

The filters are restated here from that file. On real outputs both agree in every line; where they differ on GSM8K's
own solutions, it is for one of the reasons that docs/scoring.md lists.
"""

import json
import re
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path

import pytest

from ray_bridge.tasks.gsm8k import GSM8K
from ray_bridge.tasks.scoring import cut, score_number

DATA = Path(__file__).parents[3].parent / "shared" / "data"
STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
IGNORED = (",", r"\$", r"(?s).*#### ", r"\.$")

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real data files are not beside this checkout")


def stripped(text: str) -> str:
    for pattern in IGNORED:
        text = re.sub(pattern, "", text)
    return text.lower()


def strict_match(text: str) -> str:
    matches = STRICT.findall(text)
    return stripped(matches[0].strip()) if matches else "[invalid]"


def flexible_extract(text: str) -> str:
    matches = FLEXIBLE.findall(text)
    groups = [group for group in matches[-1] if group] if matches else []
    return stripped(groups[0].strip()) if groups else "[invalid]"


def same_value(one: str, other: str) -> bool:
    try:
        return Decimal(one) == Decimal(other)
    except InvalidOperation:
        return False


def real_outputs() -> list[tuple[str, str]]:
    """Every output of every run that is there, with its solution: whole, and up to the first stop text."""
    pairs = []
    for file in sorted(DATA.rglob("*.jsonl")):
        for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            for name, output in row.items():
                if name.endswith("_output"):
                    pairs += [(output, row["gold_text"]), (cut(output, GSM8K.stops), row["gold_text"])]
    return pairs


@cache
def solutions() -> list[tuple[str, str]]:
    task = GSM8K(str(DATA / "gsm8k"))
    return [(example.answer, example.answer) for example in (*task.train(), *task.test())]


def test_both_scores_agree_on_every_real_output_and_solution() -> None:
    pairs = [*real_outputs(), *solutions()]
    assert len(pairs) >= 2400 + 8792
    for output, solution in pairs:
        gold = stripped(solution)
        score = score_number(output, gold)
        ours, theirs = (score.correct, score.flexible), (strict_match(output) == gold, flexible_extract(output) == gold)
        assert ours == theirs, (output[-100:], gold)


def test_without_the_answer_line_they_differ_only_where_numbers_are_equal_as_numbers() -> None:
    differences, groups = 0, 0
    for solution, _ in solutions():
        steps, gold = solution.rpartition("####")[0], stripped(solution)
        score, theirs = score_number(steps, gold), flexible_extract(steps)
        assert not score.valid
        if score.flexible != (theirs == gold):
            differences += 1
            assert score.flexible
            if theirs == "000":  # of $100 000
                groups += 1
            else:  # $18.00 for 18: they compare text
                assert same_value(theirs, gold), (steps[-100:], gold)
    assert 0 < differences < 300
    assert groups == 3
