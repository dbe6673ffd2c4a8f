"""Contracts on imports name every folder that they are about, so that a new one is not forgotten."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACTS = {
    contract["name"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}


def children(package: str) -> set[str]:
    """Return the modules and folders directly in a package."""
    paths = (ROOT / package).iterdir()
    names = {path.stem for path in paths if path.suffix == ".py" or (path / "__init__.py").is_file()}
    return {f"{package}.{name}" for name in names if not name.startswith("__")}


@pytest.mark.parametrize(
    ("name", "package", "exempt"),
    [
        ("Only ray_bridge.gpu imports Triton", "ray_bridge", {"ray_bridge.gpu"}),
        ("In tune_spaces only ray_tune imports Ray", "tune_spaces", {"tune_spaces.ray_tune"}),
        ("Only cluster.serving imports FastAPI and Prometheus' client", "cluster", {"cluster.serving"}),
    ],
)
def test_a_contract_names_all_folders_but_those_it_exempts(name: str, package: str, exempt: set[str]) -> None:
    named = {module for module in CONTRACTS[name]["source_modules"] if module.startswith(f"{package}.")}
    assert named == children(package) - exempt
