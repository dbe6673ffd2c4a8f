"""No modules of the packages import each other in a circle, not even for types or inside functions.

import-linter leaves out imports under TYPE_CHECKING, and its layers leave out modules of one folder.
"""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("bridge_common", "ray_bridge", "tune_spaces", "cluster", "mlflow_utils")


def modules(root: Path, packages: tuple[str, ...]) -> dict[str, Path]:
    """Return the file of each module; a package is its `__init__.py`."""
    paths = [path for package in packages for path in (root / package).rglob("*.py")]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(name: str, files: Mapping[str, Path]) -> Iterator[str]:
    """Yield what a module imports, wherever in its text it does; of `from package import module`, the module."""
    package = name.split(".") if files[name].name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(files[name].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                member = f"{origin}.{alias.name}"
                yield member if member in files else origin


def circle(files: Mapping[str, Path]) -> str | None:
    """Return one circle of imports, or None if there is none."""
    graph = {name: {other for other in imported(name, files) if other in files and other != name} for name in files}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " -> ".join(reversed(error.args[1]))
    return None


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(modules(ROOT, PACKAGES)) is None


@pytest.mark.parametrize(
    "back",
    [
        "import package.first",
        "from package import first",
        "from . import first",
        "from .first import one",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from package.first import one",
        "def call():\n    from package.first import one",
    ],
)
def test_an_import_back_is_noticed_wherever_it_stands(tmp_path: Path, back: str) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    for name, text in {"__init__": "", "first": "from package.second import two", "second": back}.items():
        (folder / f"{name}.py").write_text(text + "\n")
    found = circle(modules(tmp_path, ("package",)))
    assert found is not None
    assert set(found.split(" -> ")) == {"package.first", "package.second"}
    (folder / "second.py").write_text("import package\n")
    assert circle(modules(tmp_path, ("package",))) is None
