"""What SECURITY.md promises of the code as a whole; what it promises of one part is tested beside that part."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("bridge_common", "ray_bridge", "tune_spaces", "cluster", "mlflow_utils")
RUNS_WHAT_IT_READS = {"pickle.load", "pickle.loads", "marshal.loads", "yaml.load", "joblib.load", "eval", "exec"}
SHELLS = {"os.system", "os.popen"}


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield every call in the packages with its place and name, as in `file.py:3 torch.load`."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    yield f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node.func)}", node


def given(call: ast.Call, name: str) -> object:
    return next((ast.literal_eval(k.value) for k in call.keywords if k.arg == name), None)


@pytest.fixture(scope="module")
def made() -> list[tuple[str, ast.Call]]:
    return list(calls())


def test_no_file_is_read_by_what_runs_code_in_it(made: list[tuple[str, ast.Call]]) -> None:
    assert [place for place, _ in made if place.split()[-1] in RUNS_WHAT_IT_READS] == []
    loads = [(place, call) for place, call in made if place.endswith(" torch.load")]
    assert loads, "checkpoints are read"
    assert [place for place, call in loads if given(call, "weights_only") is not True] == []


def test_no_command_goes_through_a_shell_and_no_hub_brings_code(made: list[tuple[str, ast.Call]]) -> None:
    assert [place for place, _ in made if place.split()[-1] in SHELLS] == []
    assert [place for place, call in made if any(k.arg == "shell" for k in call.keywords)] == []
    assert [place for place, call in made if any(k.arg == "trust_remote_code" for k in call.keywords)] == []
