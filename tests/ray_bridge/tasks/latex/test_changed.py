"""Words beside a value that make another value of it."""

import pytest

from ray_bridge.tasks.latex.changed import is_changed, is_negative


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("it is twice 5", True),
        ("it is at least $5", True),
        ("between 5 and 6", True),
        ("5 to 10", True),
        ("5 out of 6", True),
        ("10 minus 5", True),
        ("5 feet 6 inches", True),
        ("5 feet", False),
        ("5 men, 6 women", False),
        ("so it is 5", False),
        ("5 to go", False),
        ("it leads to 5", False),
    ],
)
def test_a_value_is_changed_by_words_beside_it(text: str, changed: bool) -> None:
    at = text.index("5")
    assert is_changed(text, at, at + 1) is changed


def test_a_sign_in_words_is_none_after_a_number() -> None:
    assert is_negative("it is negative 5", 15)
    assert not is_negative("10 minus 5", 9)
    assert not is_negative("it is 5", 6)
