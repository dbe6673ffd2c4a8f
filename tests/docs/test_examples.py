"""The Python of README and docs runs as it is written."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.preflight.settings import PreflightSettings
from ray_bridge import tiny, tiny_run
from ray_bridge.objectives.objective import backward
from tests.support.documents import ROOT, blocks
from tests.support.model_pairs import make_pair
from tests.support.objective_steps import make_frame
from tune_spaces import Campaign


@pytest.mark.slow
def test_the_quickstart_and_the_page_of_the_python_api_run(tmp_path: Path) -> None:
    (quickstart,) = blocks("README.md")
    code = "\n".join([quickstart, *blocks("docs/python-api.md")])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "runs" / "quickstart" / "gate.json").is_file()
    assert "accuracy/bridged" in done.stdout
    assert "questions that only the bridged target answers" in done.stdout


def test_a_quickstart_is_about_ten_lines() -> None:
    (quickstart,) = blocks("README.md")
    assert len([line for line in quickstart.splitlines() if line.strip()]) <= 10


@pytest.fixture(scope="module")
def architecture() -> dict[str, Any]:
    """Return the names that the code blocks of the architecture's page define."""
    names: dict[str, Any] = {}
    for block in blocks("docs/architecture.md"):
        exec(compile(block, "docs/architecture.md", "exec"), names)
    return names


def test_the_objective_of_the_page_trains_the_bridge(architecture: dict[str, Any], tmp_path: Path) -> None:
    frame = make_frame(make_pair(tmp_path))
    parameters = [p for p in frame.translator.parameters() if p.requires_grad]
    losses = backward(frame.step(frame.items(2)), [architecture["term"]], parameters, term_norms=True)
    assert losses.terms["soft_token_size"] > 0
    assert losses.gradient_norms["soft_token_size"] > 0


def test_the_check_of_the_page_says_what_to_do(architecture: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    check = architecture["check_hub_token"]
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert [c.status for c in check(PreflightSettings(models=("embedded:source",)))] == ["skip"]
    (found,) = check(PreflightSettings(models=("mistralai/Mistral-7B-Instruct-v0.3",)))
    assert (found.status, bool(found.remedy)) == ("warn", True)
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert [c.status for c in check(PreflightSettings(models=("org/model",)))] == ["pass"]


def test_the_phase_of_the_page_is_planned(architecture: dict[str, Any], tmp_path: Path) -> None:
    base = tiny()
    campaign = Campaign(architecture["learning_rates"](base), base, tiny_run(), storage=tmp_path)
    rates = [trial.spec.learning_rate for trial in campaign.plan.trials.values()]
    assert rates == [3e-4, 1e-3, 3e-3]


def test_the_tree_of_the_page_is_the_tree(architecture: dict[str, Any]) -> None:
    """Every folder and file that the annotated tree names is there, and every package's folder is named."""
    page = (ROOT / "docs/architecture.md").read_text()
    tree = page.split("## The tree")[1].split("```")[1]
    package = ""
    for line in tree.strip().splitlines():
        if not line.startswith(" "):
            package = line.split()[0]
            assert (ROOT / package).is_dir(), package
        for name in re.findall(r"\b[a-z_]+(?:/|\.py)", line.removeprefix(package)):
            assert (ROOT / package / name).exists(), f"{package}{name}"
    for package in ("ray_bridge", "tune_spaces"):
        folders = {path.name for path in (ROOT / package).iterdir() if (path / "__init__.py").is_file()}
        assert all(f"{folder}/" in tree for folder in folders), package


def test_links_of_the_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
