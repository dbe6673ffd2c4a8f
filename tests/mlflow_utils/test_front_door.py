"""`import mlflow_utils` is fast and gives all public names."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mlflow_utils
from tests.support.campaign_folder import make_campaign

ROOT = Path(__file__).parents[2]
IMPORT = """
import sys, time
begin = time.perf_counter()
import mlflow_utils
seconds = time.perf_counter() - begin
heavy = [name for name in ("mlflow", "pandas", "ray", "torch", "filelock") if name in sys.modules]
assert not heavy, heavy
print(seconds)
"""


def test_the_import_takes_under_three_tenths_of_a_second() -> None:
    command = [sys.executable, "-c", IMPORT]
    runs = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) < 0.3


def test_every_public_name_is_there_and_listed() -> None:
    for name in mlflow_utils.__all__:
        assert getattr(mlflow_utils, name).__doc__, name
    assert set(mlflow_utils.__all__) <= set(dir(mlflow_utils))
    with pytest.raises(AttributeError, match="'mlflow_utils' has no attribute 'Traker'"):
        mlflow_utils.Traker  # noqa: B018


def test_the_version_is_that_of_the_project() -> None:
    assert mlflow_utils.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_a_campaign_is_read_by_its_path_as_text(tmp_path: Path) -> None:
    campaign = str(make_campaign(tmp_path, variants=["full", "B"]))
    assert set(mlflow_utils.from_folder(campaign).variant) == {"full", "B"}
    assert {run.variant for run in mlflow_utils.runs(campaign)} == {"full", "B"}
    assert set(mlflow_utils.history(campaign, ["loss/"]).variant) == {"full", "B"}
