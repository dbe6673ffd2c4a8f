"""A package's public names are imported when first used, and are then plain attributes."""

import importlib
import sys
from pathlib import Path

import pytest

PACKAGE = """
from bridge_common.lazy import lazy_names
__all__ = ["answer"]
__getattr__, __dir__ = lazy_names(__name__, {"answer": "lazy_example.heavy"})
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package on the path with one public name, which a submodule defines."""
    folder = tmp_path / "lazy_example"
    folder.mkdir()
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "heavy.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("lazy_example", "lazy_example.heavy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "lazy_example"


def test_a_name_is_imported_when_it_is_first_used(package: str) -> None:
    module = importlib.import_module(package)
    assert "answer" in dir(module)
    assert "lazy_example.heavy" not in sys.modules
    assert module.answer == 42
    assert vars(module)["answer"] == 42, "a second use imports nothing"


def test_an_unknown_name_is_an_attribute_error_that_names_the_package(package: str) -> None:
    module = importlib.import_module(package)
    with pytest.raises(AttributeError, match="module 'lazy_example' has no attribute 'question'"):
        module.question  # noqa: B018
    assert not hasattr(module, "question")
