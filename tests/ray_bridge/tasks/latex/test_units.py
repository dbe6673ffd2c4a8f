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
        ("5\\text{ kilometers per hour}", "5", "km/h"),
        ("5\\text{ Meters per second}", "5", "m/s"),
        ("5\\text{ sq. ft}", "5", "ft2"),
        ("5\\text{ cu in}", "5", "in3"),
        ("5\\text{ square}", "5", None),
        ("5\\text{ Feet}", "5", "ft"),
        ("5\\text{ pennies}", "5", "ct"),
        ("5\\text{ mL}", "5", "ml"),
        ("5\\text{ a.m.}", "5", "am"),
        ("5\\text{}", "5", None),
        ("5\\text{ half}", "5\\text{ half}", None),
        ("5\\text{ dozen}", "5\\text{ dozen}", None),
        ("5 half apples", "5 half apples", None),
        ("5 red apples", "5", None),
        ("5 one two three four five", "5 one two three four five", None),
        ("5 kg^2", "5", "kg2"),
        ("5 kg^{ 3 }", "5", "kg3"),
        ("5\\text{ cm}^4", "5\\text{ cm}^4", None),
        ("\\frac{1}{2}\\text{ inch}", "\\frac{1}{2}", "in"),
        ("-\\$ 5.50", "-5.50", "$"),
        ("5L", "5", "l"),
        ("5 L", "5", "l"),
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
    assert measured("5 L", letters=False).unit is None
    assert measured("5 kg", letters=False).unit == "kg"
