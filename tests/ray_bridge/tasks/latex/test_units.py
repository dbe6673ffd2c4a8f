"""The unit of an answer."""

import pytest

from ray_bridge.tasks.latex.units import measured


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("5", "5", None),
        ("5\\text{ cm}", "5", "cm"),
        ("5\\text{cm}^2", "5", "cm2"),
        ("5\\text{ cm}^{3}", "5", "cm3"),
        ("5\\text{ cm^2}", "5", "cm2"),
        ("5\\text{ square inches}", "5", "in2"),
        ("5\\text{ cubic feet}", "5", "ft3"),
        ("5\\,\\text{Kilometers}", "5", "km"),
        ("5\\text{ miles per hour}", "5", "mph"),
        ("5\\text{ in.}", "5", "in"),
        ("5\\text{ apples}", "5", None),
        ("5 cm", "5", "cm"),
        ("5 apples", "5", None),
        ("\\$5", "5", "$"),
        ("-\\$5", "-5", "$"),
        ("5\\$", "5", "$"),
        ("90^\\circ", "90", "degree"),
        ("90^{\\circ}", "90", "degree"),
        ("90\\degree", "90", "degree"),
        ("5m", "5", "m"),
        ("5x", "5x", None),
        ("\\text{cm}", "\\text{cm}", None),
        ("x^m", "x^m", None),
    ],
)
def test_value_and_unit(text: str, value: str, unit: str | None) -> None:
    found = measured(text, letters=True)
    assert (found.value, found.unit) == (value, unit)


def test_a_letter_is_a_variable_beside_other_letters() -> None:
    assert measured("5m", letters=False).value == "5m"
    assert measured("5\\text{ m}", letters=False).unit == "m"
