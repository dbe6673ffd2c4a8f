"""Runs record their commit: in a checkout, and in a submitted job's copy of the code, which has no `.git`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge_common.git import GIT_FACTS, git_facts
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support import mlflow_records
from tests.support.git_checkouts import commit_all
from tests.support.mlflow_store import copy_database

ROOT = Path(__file__).parents[2]
RECORD = """
import sys
from pathlib import Path
from mlflow_utils.tracker import Tracker
uri, campaign = sys.argv[1], Path(sys.argv[2])
tracker = Tracker(uri, campaign.name, campaign)
tracker.start()
tracker.phase("phase1", {}, {})
tracker.trial(campaign / "trials" / "full", phase="phase1", name="full", fingerprint="f" * 16, params={}, tags={})
tracker.finish("phase1", "FINISHED")
assert tracker.close(60) is None
"""


def copy_of_the_code(folder: Path) -> Path:
    """Copy the packages that record a run, without a git history."""
    for package in ("bridge_common", "mlflow_utils"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def recorded_tags(code: Path, campaign: Path, **variables: str) -> tuple[list[dict[str, str]], Any]:
    """Record a phase and a trial with some code in a process of its own.

    Returns:
        The tags of the phase's and of the trial's run, and the names of the phase's artifacts.
    """
    campaign.mkdir()
    uri = default_tracking_uri(campaign.parent)
    environment = {name: value for name, value in os.environ.items() if name != GIT_FACTS}
    subprocess.run(
        [sys.executable, "-c", RECORD, uri, str(campaign)],
        cwd=code,
        env={**environment, "PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1", **variables},
        check=True,
        timeout=120,
    )
    runs = mlflow_records.runs(uri, campaign.name)
    assert sorted(run.data.tags["kind"] for run in runs) == ["phase", "trial"]
    (phase,) = [run for run in runs if run.data.tags["kind"] == "phase"]
    artifacts = [file.path for file in mlflow_records.client(uri).list_artifacts(phase.info.run_id)]
    return [run.data.tags for run in runs], artifacts


@pytest.fixture
def runs(tmp_path: Path, mlflow_database: Path) -> Path:
    """Return an empty storage whose database has its tables already."""
    (tmp_path / "runs").mkdir()
    return copy_database(mlflow_database, tmp_path / "runs")


@pytest.mark.parametrize("changed", [pytest.param(False, marks=pytest.mark.slow), True])
def test_runs_of_a_checkout_have_its_commit_and_diff(tmp_path: Path, runs: Path, changed: bool) -> None:
    code = copy_of_the_code(tmp_path / "code")
    commit = commit_all(code)
    if changed:
        (code / "mlflow_utils" / "names.py").open("a").write("# changed\n")
    recorded, artifacts = recorded_tags(code, runs / "demo")
    for tags in recorded:
        assert [name for name, value in tags.items() if value == commit] == ["git_commit"], "no fact stands in two tags"
        assert [name for name, value in tags.items() if value == "main"] == ["git_branch"]
        assert tags["git_dirty"] == str(changed)
    assert artifacts == (["git_diff.patch"] if changed else [])


def test_runs_of_a_submitted_job_have_the_commit_of_the_checkout_it_was_submitted_from(
    tmp_path: Path, runs: Path
) -> None:
    checkout = copy_of_the_code(tmp_path / "checkout")
    commit = commit_all(checkout)
    (checkout / "new.py").write_text("")
    submitted = json.dumps(git_facts(checkout))
    copy = copy_of_the_code(tmp_path / "copy")
    recorded, _ = recorded_tags(copy, runs / "demo", **{GIT_FACTS: submitted})
    for tags in recorded:
        assert [name for name, value in tags.items() if value == commit] == ["git_commit"], "no fact stands in two tags"
        assert [name for name, value in tags.items() if value == "main"] == ["git_branch"]
        assert tags["git_dirty"] == "True"


@pytest.mark.slow
def test_runs_of_code_without_git_say_nothing_about_it(tmp_path: Path, runs: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    (outer / "mine.py").write_text("")
    commit_all(outer)
    code = copy_of_the_code(outer / ".venv" / "site-packages")
    recorded, artifacts = recorded_tags(code, runs / "demo")
    assert not [name for tags in recorded for name in tags if "git" in name]
    assert artifacts == []
