"""Groups of items stand in the table under names that can be read."""

from typing import Any

from tune_spaces.appendix.group_table import group_table


def row(group: str, value: str) -> dict[str, Any]:
    known = {"runs": 1, "n": 40, "accuracy": 0.5, "low": 0.35, "high": 0.65, "alone": 0.25}
    unknown = dict.fromkeys(("gain", "gain_low", "gain_high"))
    return {"variant": "full", "group": group, "value": value, **known, **unknown}


def test_questions_with_digits_are_called_numerals_and_other_groups_by_their_names() -> None:
    table = group_table([row("words", "none"), row("words", "transfer"), row("level", "none")])
    assert [line.split(" | ")[1:3] for line in table.splitlines()[2:]] == [
        ["words", "numerals"],
        ["words", "transfer words"],
        ["level", "none"],
    ]
