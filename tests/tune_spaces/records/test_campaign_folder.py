"""A campaign's folder: its files, its lock and its request to stop."""

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bridge_common import files
from bridge_common.errors import UserError
from ray_bridge import code_digest
from tests.support.planned_trials import RUN, campaign, of_variant, plan
from tune_spaces.records.campaign_folder import CampaignFolder


def test_campaigns_of_a_storage_are_the_folders_that_were_started(tmp_path: Path) -> None:
    for name in ("b", "a"):
        campaign(tmp_path, name).write_campaign({"name": name})
    (tmp_path / "no-campaign").mkdir()
    folders = CampaignFolder.all_in(tmp_path)
    assert folders == [campaign(tmp_path, "a"), campaign(tmp_path, "b")]
    assert [(folder.name, folder.storage) for folder in folders] == [("a", tmp_path), ("b", tmp_path)]


def test_a_home_folder_may_be_abbreviated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    campaign(tmp_path / "runs", "a").write_campaign({})
    assert [folder.name for folder in CampaignFolder.all_in(Path("~/runs"))] == ["a"]


def test_files_have_their_recorded_names_and_read_back(tmp_path: Path) -> None:
    folder = campaign(tmp_path)
    assert (folder.campaign(), folder.plan(), folder.gate()) == (None, None, None)
    folder.write_campaign({"name": "c"})
    folder.write_plan({"first": ["full"]})
    folder.write_gate({"status": "open"})
    assert (folder.campaign(), folder.plan(), folder.gate()) == ({"name": "c"}, {"first": ["full"]}, {"status": "open"})
    assert sorted(path.name for path in folder.path.iterdir()) == ["campaign.json", "gate.json", "plan.json"]
    assert folder.experiments == tmp_path / "c" / "tune"


def test_the_last_stop_is_that_of_the_last_start(tmp_path: Path) -> None:
    folder = campaign(tmp_path)
    assert folder.last_stop() is None
    folder.write_campaign({"starts": [{"pid": 1}]})
    assert folder.last_stop() is None
    folder.record_stop("SIGTERM")
    folder.record_stop("SIGINT")
    assert folder.last_stop() == "SIGTERM", "the first reason stays"
    folder.write_campaign({"starts": [*(folder.campaign() or {})["starts"], {"pid": 2}]})
    assert folder.last_stop() is None


def test_a_trial_begins_with_all_that_it_is(tmp_path: Path) -> None:
    trial = of_variant(plan(), "B")
    begun = campaign(tmp_path).begin(trial, RUN)
    assert begun == campaign(tmp_path).trial(trial.name)
    assert begun.path == tmp_path / "c" / "trials" / f"B-{trial.fingerprint[:8]}"
    assert begun.spec() == {
        "variant": "B",
        "phase": "phase1.5",
        "fingerprint": trial.fingerprint,
        "seed": 0,
        "purpose": "KL alignment alone",
        "spec": json.loads(json.dumps(trial.spec.model_dump())),
        "run": json.loads(json.dumps(RUN.model_dump())),
        "code": [code_digest()],
    }


def test_one_process_drives_a_campaign(tmp_path: Path) -> None:
    folder = campaign(tmp_path)
    assert not folder.is_driven()
    assert folder.driver() == "process ? on another host"
    with folder.locked():
        assert folder.driver() == f"process {os.getpid()} on {socket.gethostname()}"
        assert files.read_json(folder.path / "driver.json")["since"] == pytest.approx(time.time(), abs=60)
        asked = f"from pathlib import Path; from {CampaignFolder.__module__} import CampaignFolder as F"
        command = f"{asked}; print(F(Path({str(folder.path)!r})).is_driven())"
        said = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == "True"
        with pytest.raises(UserError, match=rf"campaign c is being run by process {os.getpid()} on"), folder.locked():
            pass
    assert not folder.is_driven()
    assert not folder.is_driven(), "looking does not take the lock"
    with folder.locked():
        pass


def test_a_start_does_not_take_a_look_of_another_command_for_a_driver(tmp_path: Path) -> None:
    folder = campaign(tmp_path)
    with folder.locked():
        pass
    with (folder.path / ".lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        timer = threading.Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN))
        timer.start()
        with folder.locked():
            pass
        timer.join()


def test_a_request_to_stop_lasts_until_the_next_start(tmp_path: Path) -> None:
    folder = campaign(tmp_path)
    with folder.locked():
        assert not folder.stop_requested()
        folder.request_stop()
        assert folder.stop_requested()
        assert float((folder.path / "stop").read_text()) == pytest.approx(time.time(), abs=60)
    assert folder.stop_requested()
    with folder.locked():
        assert not folder.stop_requested()
