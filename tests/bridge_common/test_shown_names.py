"""What people read has words for conditions and groups, and other tasks' groups keep their names."""

import pytest

from bridge_common.shown_names import condition_name, group_name


@pytest.mark.parametrize("source", ["synthetic", "words"])
def test_questions_with_digits_are_called_numerals(source: str) -> None:
    names = [group_name(value, source) for value in ("none", "seen", "transfer")]
    assert names == ["numerals", "seen words", "transfer words"]


def test_a_group_of_another_task_keeps_its_name() -> None:
    assert [group_name("none", source) for source in ("math", "level", None)] == ["none"] * 3
    assert group_name("Level 5", "synthetic") == "Level 5"


def test_conditions_have_spaces() -> None:
    assert condition_name("target_alone") == "target alone"
