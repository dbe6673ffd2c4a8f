"""A storage may be called anything that its file system takes: spaces, other scripts, signs of URIs and of shells."""

import shlex
from pathlib import Path

import pytest

from bridge_common.trial_folder import TrialFolder
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support import mlflow_records
from tests.support.campaigns import NAME
from tests.support.command_line import ROOT, call, call_here

pytestmark = [pytest.mark.slow, pytest.mark.long]

FOLDER = "Größe der Läufe ß 模型 50%41 a?b=c#d 'e' $F"
SETTINGS = {"steps": 2, "warmup_steps": 1, "eval_every": 2, "validation_examples": 4, "test_examples": 8}
SETTINGS |= {"train_examples": 64, "workers": 1}


def test_a_campaign_in_a_folder_with_spaces_other_scripts_and_signs(tmp_path: Path) -> None:
    storage = tmp_path / FOLDER
    storage.mkdir()
    options = ["--storage", str(storage), "--reports", str(storage / "paper")]
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    run = {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    done = call("phase1", *options, *settings, "--skip-preflight", **run)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = [line for line in done.stdout.splitlines() if " -m cluster ui " in line]
    assert len(shown) == 2
    for line in shown:
        assert shlex.split(line)[-2:] == ["--storage", str(storage)], "the printed command can be pasted"
    (trial,) = TrialFolder.begun_in(storage / NAME)
    first = trial.samples_file.read_bytes()
    trial.result_file.unlink()
    trial.samples_file.unlink()
    again = call("resume", *options[:2], "--skip-preflight", **run)
    assert again.returncode == 0, again.stdout + again.stderr
    assert trial.samples_file.read_bytes() == first, "it went on from its checkpoint"
    assert "75.0%" in call_here("status", *options[:2]).stdout
    for command in ("card", "appendix", "report"):
        out = ["--out", str(storage / "paper")] if command == "report" else []
        done = call_here(command, *options[:2], *out)
        assert done.returncode == 0, done.stderr
    assert (storage / NAME / "card.html").is_file()
    assert trial.name in (storage / "paper" / "CODEX_REPORT.md").read_text(encoding="utf-8")
    assert [path.relative_to(storage) for path in tmp_path.rglob("*.db")] == [Path("mlflow.db")]
    uri = default_tracking_uri(storage)
    recorded = mlflow_records.runs(uri, NAME)
    assert {run.info.status for run in recorded} == {"FINISHED"}
    assert len(recorded) == 2, "a phase and a trial"
    (of_trial,) = mlflow_records.trials(uri, NAME).values()
    client = mlflow_records.client(uri)
    sent = client.download_artifacts(of_trial.info.run_id, "samples.jsonl", str(tmp_path))
    assert Path(sent).read_bytes() == first
