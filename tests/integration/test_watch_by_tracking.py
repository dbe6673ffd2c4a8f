"""`status --watch` on a machine that sees the tracking server and not the storage, while real trials run."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.monitoring.snapshot import Snapshot, Watcher
from mlflow_utils import mirror
from mlflow_utils.server import Server
from tests.support.campaigns import NAME, driver, driver_log, end, events, prepare
from tests.support.mlflow_store import copy_database
from tests.support.ports import free_port
from tests.support.ray_clusters import ROOT
from tests.support.waiting import wait_for
from tune_spaces.campaign import Campaign

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Iterator[Server]:
    root = copy_database(mlflow_database, tmp_path_factory.mktemp("server"))
    own = Server(f"sqlite:///{root}/mlflow.db", root / "artifacts", port=free_port(), log=root / "server.log")
    own.start()
    own.wait()
    yield own
    own.stop(signal.SIGKILL)


def without(folder: Path, command: list[str]) -> list[str]:
    """Return the command line that runs a command where a folder is empty, if mount namespaces are allowed here."""
    hidden = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh"]
    allowed = shutil.which("unshare") and subprocess.run([*hidden, "true"], capture_output=True, check=False)
    return [*hidden, *command] if allowed and allowed.returncode == 0 else command


def shown(snapshot: Snapshot) -> list[tuple[Any, ...]]:
    return sorted((t.variant, t.seed, t.state, t.step, t.accuracy, round(t.seconds, 1)) for t in snapshot.trials)


def test_trials_are_followed_by_the_tracking_server_alone(tmp_path: Path, ray_head: Any, server: Server) -> None:
    storage, log = tmp_path / "storage", tmp_path / "watch.log"
    prepare(storage, {"full": 0.67, "B": 0.6, "C": 0.65}, steps=6, hold=True)
    options = ("--tracking-uri", server.url, "--skip-preflight")
    process = driver(storage, *options, address=ray_head.address)
    try:
        wait_for(lambda: events(storage, "step"), 120, "full runs")
        watch = [sys.executable, "-m", "cluster", "status", "--watch", "--every", "1", "--tracking-uri", server.url]
        with log.open("w") as out:
            watcher = subprocess.Popen(
                without(storage, [*watch, "--storage", str(storage), "--name", NAME]),
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )
        wait_for(lambda: "1 running" in log.read_text(), 60, "the watcher sees it")
        (storage / "go").touch()
        assert process.wait(180) == 0, driver_log(storage)
        assert watcher.wait(60) == 0, "it ends with the campaign"
    finally:
        end(process)
        print(log.read_text() if log.is_file() else "")
    text = log.read_text()
    assert "1 running" in text
    assert "3 finished; nobody runs it" in text
    assert "67.0%" in text
    assert "gate: below 70%" in text

    campaign = Campaign.load(storage, NAME)
    with mirror.mirrored(server.url) as copy:
        assert not copy.driven
        own = Watcher(Campaign.load(copy.storage, copy.campaign), driven=lambda: copy.driven).snapshot()
    assert shown(own) == shown(Watcher(campaign).snapshot())


def test_a_driver_that_died_is_noticed_and_its_attempts_are_counted(
    tmp_path: Path, ray_head: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path, {"full": 0.72}, steps=12, pause=1.0)
    options = ("--tracking-uri", server.url, "--skip-preflight")
    process = driver(tmp_path, *options, address=ray_head.address)
    try:
        wait_for(lambda: len(events(tmp_path, "step")) >= 3, 120, "full runs")
        with mirror.mirrored(server.url, NAME) as copy:
            assert copy.driven
            own = Watcher(Campaign.load(copy.storage, NAME), driven=lambda: copy.driven)
            assert own.snapshot().counts() == {"running": 1, "waits for the gate": 3}
            os.kill(process.pid, signal.SIGKILL)
            process.wait(30)
            monkeypatch.setattr(mirror, "SILENT_S", 5.0)
            wait_for(lambda: copy.refresh() is None and not copy.driven, 60, "nobody is heard of")
            assert own.snapshot().counts() == {"stopped": 1, "waits for the gate": 3}
        prepare(tmp_path, {"full": 0.72}, steps=12)
        again = driver(tmp_path, *options, address=ray_head.address)
        assert again.wait(120) == 0, driver_log(tmp_path)
    finally:
        end(process)
    with mirror.mirrored(server.url, NAME) as copy:
        trials = Watcher(Campaign.load(copy.storage, NAME), driven=lambda: copy.driven).snapshot().trials
    (known,) = Watcher(Campaign.load(tmp_path, NAME)).snapshot().trials
    (own_trial,) = trials
    assert own_trial.seconds == pytest.approx(known.seconds, abs=1.5), "the time between the attempts is no work"
    assert known.seconds < 25
