"""One notation for the several in which the same answer is typed."""

import pytest

from ray_bridge.tasks.latex.notation import plain_signs, standard


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("½", r"\frac{1}{2}"),
        ("3½", r"3\frac{1}{2}"),
        ("⅓", r"\frac{1}{3}"),
        ("x²", "x^{2}"),
        ("x⁻¹²", "x^{-12}"),
        ("a₁₂", "a_{12}"),
        ("√2", r"\sqrt{2}"),
        ("2√3.5", r"2\sqrt{3.5}"),
        ("√(x+1)", r"\sqrt{x+1}"),
        ("√ {a}", r"\sqrt{a}"),
        ("∛{8}", r"\sqrt[3]{8}"),
        ("√xy", r"\sqrt{x}y"),
        ("π", r"\pi"),
        ("2πr", r"2\pi r"),
        ("αβ", r"\alpha \beta"),
        ("π2", r"\pi2"),
        ("≤5", r"\le5"),
        ("5×3", r"5\times3"),
        ("5°", r"5^\circ"),
        ("£5", r"\$5"),
        ("５０", "50"),
        ("x′", "x'"),
        ("5¢", r"5\text{ cents}"),
        ("−5", "-5"),
        ("é", "é"),
        ("plain", "plain"),
    ],
)
def test_signs_beyond_ascii_are_written_as_latex_and_letters_stay(text: str, written: str) -> None:
    assert plain_signs(text) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1 000", "1000"),
        (r"1\,000\,000", "1000000"),
        ("1{,}000", "1000"),
        (r"1,\!000", "1000"),
        ("2 1/2", r"2\frac{1}{2}"),
        (r"12\ 1/2", r"12\frac{1}{2}"),
        ("1e5", r"1\times 10^{5}"),
        ("1.5E-3", r"1.5\times 10^{-3}"),
        ("2.5e+3", r"2.5\times 10^{3}"),
        ("1e-10", r"1\times 10^{-10}"),
        ("1e-3", "1e-3"),
        ("5 million", r"5\times 10^{6}"),
        ("3 hundred", r"3\times 10^{2}"),
        ("7 billion", r"7\times 10^{9}"),
        ("7 trillion", r"7\times 10^{12}"),
    ],
)
def test_digits_in_groups_mixed_numbers_and_powers_of_ten(text: str, written: str) -> None:
    assert standard(text) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (r".\overline{3}", r"\frac{3}{9}"),
        (r"0.1\overline{6}", r"\frac{15}{90}"),
        (r"2.\overline{36}", r"\frac{234}{99}"),
        (r"0.\bar3", r"\frac{3}{9}"),
        (r"0.\dot{3}", r"\frac{3}{9}"),
        (r"0.\dot{1}4\dot{2}", r"\frac{142}{999}"),
        (r"0.\dot{1}\dot{2}", r"\frac{12}{99}"),
        ("0.1(6)", r"\frac{15}{90}"),
    ],
)
def test_a_decimal_that_repeats_is_its_fraction(text: str, written: str) -> None:
    assert standard(text) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (r"\frac a b", r"\frac{a}{b}"),
        (r"\frac\pi2", r"\frac{\pi}{2}"),
        (r"\tfrac x{12}", r"\frac{x}{12}"),
        (r"\sqrt[3]2", r"\sqrt[3]{2}"),
        (r"x^\frac12", r"x^{\frac12}"),
        (r"a \over b", r"\frac{a}{b}"),
        (r"{x^{2} \over y_{1}} + 1", r"{\frac{x^{2}}{y_{1}}} + 1"),
        (r"2 + {a \over {b} c} + 1", r"2 + {\frac{a}{{b} c}} + 1"),
        (r"{{1 \over 2} \over 3}", r"{\frac{{\frac{1}{2}}}{3}}"),
        (r"{n \choose k}!", r"{\binom{n}{k}}!"),
        (r"\sqrt{a \over b}", r"\sqrt{\frac{a}{b}}"),
    ],
)
def test_fractions_and_roots_have_braces(text: str, written: str) -> None:
    assert standard(text) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (r"\sin 30^\circ", r"\sin \frac{30\pi}{180}"),
        (r"\cos(60^{\circ})", r"\cos(\frac{60\pi}{180})"),
        (r"\angle CAB", r"\text{angle BAC}"),
        (r"\angle{BAC}", r"\text{angle BAC}"),
        (r"\triangle CAB", r"\text{triangle ABC}"),
    ],
)
def test_degrees_and_figures_have_one_name(text: str, written: str) -> None:
    assert standard(text) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("  a   b ", "a b"),
        (r"\left(1,2\right)", "(1,2)"),
        (r"\bigl[3\bigr]", "[3]"),
        ("$5$", "5"),
        (r"\$5", r"\$5"),
        (r"\mathrm{cm}", r"\text{cm}"),
        (r"\mbox{or}", r"\text{or}"),
        (r"\mathbf{x}", "x"),
        (r"\boldsymbol{v}+1", "v+1"),
        (r"\varnothing", r"\emptyset"),
        (r"\lbrace 3 \rbrace", r"\{ 3 \}"),
        (r"\text{ 5 cm}", "5 cm"),
        (r"\text{half}", r"\text{half}"),
        (r"5.", "5"),
        (r"5,\ ", "5"),
        (r"a\,", "a"),
        (r"\displaystyle\frac12", r"\frac12"),
    ],
)
def test_what_says_nothing_is_dropped(text: str, written: str) -> None:
    assert standard(text) == written


def test_a_few_infix_fractions_are_rewritten_and_no_more() -> None:
    """Each is searched for in the whole text, so their number is bounded."""
    text = r"{1 \over 2}" * 9
    assert standard(text).count(r"\frac") == 8
    assert standard(text).count(r"\over") == 1
