"""Answers for programs: `--json` of plan and status, refusals that name the remedy, completion in a shell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from cluster.cli.options import PhaseRequest
from cluster.cli.plan import print_plan
from cluster.cli.request import make_campaign, parse_phase
from cluster.monitoring.status import print_status
from tests.support.card_campaigns import make_ended
from tests.support.command_line import ROOT

COMPLETE = "import sys; sys.argv = ['ablate']; from cluster.__main__ import main; main()"


def request(storage: Path, *arguments: str, phase: str = "phase1") -> PhaseRequest:
    return parse_phase(phase, ["--storage", str(storage), *arguments])


def test_a_plan_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_plan("phase1", request(tmp_path, "--skip-preflight"), as_json=True)
    record = json.loads(capsys.readouterr().out)
    assert record["campaign"] == "phase1-tiny"
    assert [trial["variant"] for trial in record["trials"]] == ["full", "A", "B", "C"]
    assert {check["status"] for check in record["checks"]} <= {"pass", "warn", "fail", "skip"}
    assert record["identity"] == json.loads((tmp_path / "phase1-tiny" / "plan.json").read_text())["identity"]


def test_the_state_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    campaign = make_ended(tmp_path, items=10, seeds=(0,), unfinished=1)
    print_status(tmp_path, None, as_json=True)
    (state,) = json.loads(capsys.readouterr().out)
    assert (state["campaign"], state["folder"]) == ("spring", str(campaign.folder))
    assert state["state"] in ("finished", "failed")
    trials = {trial["name"]: trial for trial in state["trials"]}
    assert {"full", "no-kl"} <= {trial["variant"] for trial in trials.values()} or len(trials) == 1
    first = next(iter(trials.values()))
    result = campaign.trial(first["name"]).result()
    assert result is not None
    assert first["accuracy"] == result["metrics"]["accuracy/bridged"]
    assert first["state"] == "finished"


def test_a_changed_setting_is_named_and_a_new_name_offered(tmp_path: Path) -> None:
    make_campaign("phase1", request(tmp_path)).freeze()
    (tmp_path / "phase1-tiny-2").mkdir()
    changed = make_campaign("phase1", request(tmp_path, "--set", "learning_rate=0.5", "--set", "ema_decay=0.5"))
    with pytest.raises(UserError) as caught:
        changed.freeze()
    message = str(caught.value)
    assert "learning_rate was " in message
    assert ", now 0.5" in message
    assert "ema_decay was 0.0, now 0.5" in message
    assert "trials would measure something else now): give a new name, --name phase1-tiny-3;" in message


@pytest.mark.parametrize("option", [("--toggle", "kl"), ("--design", "factorial")])
def test_a_campaign_of_ones_own_names_its_variants_itself(tmp_path: Path, option: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=f"{option[0]} with --campaign: its function names the variants"):
        request(tmp_path, "--campaign", "tune_spaces.design.phases:phase1", *option, phase="ablate")


def test_a_shell_completes_commands() -> None:
    asked = {"_ABLATE_COMPLETE": "bash_complete", "COMP_WORDS": "ablate pl", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **asked},
        check=True,
    )
    assert done.stdout.split() == ["plain,plan"]
