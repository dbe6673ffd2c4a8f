"""What is no path or name is said in words, before a file system says it."""

from pathlib import Path

import pytest

from bridge_common.paths import path_problem, plain_path, short, text_problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("a\nb", "'a\\nb' has a control character"),
        ("\x1b[31m", "has a control character"),
        ("a\x85b", "has a control character"),
        ("\udcff", "is no valid UTF-8"),
        ("x" * 256, "has 256 bytes, at most 255 are possible"),
        ("é" * 128, "has 256 bytes"),
    ],
)
def test_what_is_no_name(text: str, problem: str) -> None:
    assert problem in (text_problem(text) or "")


@pytest.mark.parametrize("text", ["a", "a b", "é" * 127, "日本", "-x", "runs/a"])
def test_what_is_a_name(text: str) -> None:
    assert text_problem(text) is None


def test_parts_of_a_path_are_names() -> None:
    assert path_problem("/".join(["x" * 255] * 3)) is None
    assert "has 300 bytes" in (path_problem(f"/tmp/{'x' * 300}/y") or "")
    assert "at most 4095" in (path_problem("/x" * 2048) or "")
    assert path_problem("/") is None


def test_a_path_keeps_its_last_part() -> None:
    name = "model.safetensors"
    assert plain_path(Path("/runs") / ("x" * 90) / name) == f"/runs/{'x' * 90}/{name}"
    assert plain_path(f"/{'x/' * 400}{name}").endswith(f"x/{name}'")
    assert plain_path("/two\nlines") == repr("/two\nlines")


def test_a_long_text_is_shown_short() -> None:
    assert short("x" * 300) == repr("x" * 57 + "...")
