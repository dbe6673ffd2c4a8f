"""A campaign that version 0.1.0 left half done is read, reported, resumed and reused by this version.

`tests/data/campaign-0.1.0.tar.xz` is the folder of a phase 1 on the embedded pair (20 steps) whose driver was killed
in variant C, ten steps in; checkpoints of its finished trials are left out.
"""

import json
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from tests.support.command_line import call, call_here
from tests.support.mlflow_store import copy_database
from tune_spaces.campaign import Campaign

ROOT = Path(__file__).parents[2]
ARCHIVE = ROOT / "tests" / "data" / "campaign-0.1.0.tar.xz"
NAME = "phase1-tiny"
FINISHED = ("full-d416e67a", "A-863a5ef0", "B-d40b4206")
ACCURACY = {"full": 15 / 24, "A": 15 / 24, "B": 16 / 24}


@pytest.fixture
def storage(tmp_path: Path, mlflow_database: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "runs", filter="data")
    return copy_database(mlflow_database, tmp_path / "runs")


def cluster(*arguments: str | Path) -> str:
    """Run a command of the command line and return what it printed."""
    done = call_here(*map(str, arguments))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def in_a_process(*arguments: str | Path) -> None:
    """Run a command that starts Ray, whose workers find this checkout."""
    done = call(*map(str, arguments), PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout + done.stderr


def results_of(storage: Path) -> dict[str, bytes]:
    return {name: (storage / NAME / "trials" / name / "result.json").read_bytes() for name in FINISHED}


def test_fingerprints_are_those_of_0_1_0(storage: Path) -> None:
    campaign = Campaign.load(storage, NAME)
    campaign.freeze()  # plans anew, and refuses if any fingerprint has changed
    assert {*FINISHED, "C-21c38f2a"} <= set(campaign.plan.trials)


def test_it_is_read_and_reported(storage: Path, tmp_path: Path) -> None:
    cluster("results", "--storage", storage, "--out", tmp_path / "results.csv")
    frame = pd.read_csv(tmp_path / "results.csv").set_index("variant")
    assert frame.status.to_dict() == {"full": "finished", "A": "finished", "B": "finished", "C": "unfinished"}
    assert frame["accuracy/bridged"].dropna().to_dict() == pytest.approx(ACCURACY)
    cluster("report", "--storage", storage, "--out", tmp_path / "paper")
    report = "".join(path.read_text() for path in (tmp_path / "paper").rglob("*.md"))
    assert all(variant in report for variant in ("full", "A", "B", "C"))
    assert NAME in cluster("status", "--storage", storage)
    cluster("appendix", "--storage", storage)
    assert "| B " in (storage / NAME / "appendix" / "appendix.md").read_text()


@pytest.mark.slow
def test_it_is_resumed_from_its_checkpoint_and_its_trials_are_reused(storage: Path) -> None:
    before = results_of(storage)
    in_a_process("resume", "--storage", storage)
    assert results_of(storage) == before
    trial = storage / NAME / "trials" / "C-21c38f2a"
    assert json.loads((trial / "result.json").read_text())["metrics"]["n"] == 24
    events = [json.loads(line) for line in (trial / "events.jsonl").read_text().splitlines()]
    steps = [e["step"] for e in events if e["kind"] == "metrics" and "loss/total" in e["values"]]
    assert steps == list(range(1, 21))
    statuses = [event["status"] for event in events if event["kind"] == "status"]
    assert statuses == ["RUNNING", "RUNNING", "FINISHED"]
    # Steps 11 to 14 had been recorded before the kill: repeated from the checkpoint at 10, they are not written twice.
    again = [i for i, event in enumerate(events) if event.get("status") == "RUNNING"][1]
    assert [e["step"] for e in events[again:] if "loss/total" in e.get("values", {})] == list(range(15, 21))

    # Another campaign of the same settings in this storage takes all four, and starts no Ray.
    asked = json.loads((storage / NAME / "campaign.json").read_text())
    settings = [f"--set={name}={value}" for name, value in asked["request"]["settings"].items()]
    cluster("phase1", "--preset", "tiny", "--storage", storage, "--name", "again", *settings)
    for name in (*FINISHED, "C-21c38f2a"):
        taken = json.loads((storage / "again" / "trials" / name / "result.json").read_text())
        assert taken["reused_from"].endswith(f"{NAME}/trials/{name}")
    assert not (storage / "again" / "tune").exists()
