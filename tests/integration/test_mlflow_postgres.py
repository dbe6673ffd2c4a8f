"""MLflow on a real PostgreSQL: a server on the database, a campaign recorded through it, and the same table back.

Needs PostgreSQL's programs (Debian: `apt-get install postgresql`) and psycopg; without them the test is skipped.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlflow_utils import dataframes
from mlflow_utils.server import Server
from mlflow_utils.tracking_uri import check
from tests.support import mlflow_records
from tests.support.campaign_folder import make_campaign
from tests.support.campaigns import NAME, driver, driver_log, end, events, prepare
from tests.support.ports import free_port
from tests.support.ray_clusters import ROOT
from tests.support.servers import mlflow_pages
from tests.support.tracked_campaigns import record
from tests.support.waiting import wait_for

pytest.importorskip("psycopg")
INITDB, CONTROL = shutil.which("initdb"), shutil.which("pg_ctl")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (INITDB and CONTROL), reason="no PostgreSQL: `make services` installs it"),
]


class Database:
    """A PostgreSQL of its own. The programs refuse to run as root and run as `postgres` then."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as_user:
            shutil.chown(folder, "postgres")
        self.run(str(INITDB), "-D", str(folder / "data"), "-U", "mlflow", "-A", "trust", "--no-sync")

    def run(self, *command: str) -> None:
        subprocess.run([*self._as_user, *command], check=True, cwd=self.folder, stdout=subprocess.DEVNULL)

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c fsync=off"
        self.control("-l", str(self.folder / "log"), "-w", "-o", options, "start")

    def stop(self) -> None:
        self.control("-m", "immediate", "stop")

    def control(self, *arguments: str) -> None:
        self.run(str(CONTROL), "-D", str(self.folder / "data"), *arguments)

    @property
    def uri(self) -> str:
        return f"postgresql://mlflow@127.0.0.1:{self.port}/postgres"


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        own = Database(folder)
        own.start()
        try:
            yield own
        finally:
            own.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_campaign_is_recorded_through_a_server_on_postgresql(database: Database, tmp_path: Path) -> None:
    check(database.uri)
    campaign = make_campaign(tmp_path, variants=["full", "B"])
    port = free_port()
    url = f"http://localhost:{port}"  # the only name by which others may address it
    options = ("--tracking-uri", database.uri, "--host", "0.0.0.0", "--allowed-hosts", f"localhost:{port}")
    with mlflow_pages(tmp_path, *options, port=port):
        record(url, campaign)
        record(url, campaign)
        order = ["phase", "variant"]
        pd.testing.assert_frame_equal(
            dataframes.from_folder(campaign).sort_values(order, ignore_index=True),
            dataframes.from_mlflow(url, "demo").sort_values(order, ignore_index=True),
            check_like=True,
        )
    assert list((tmp_path / "mlartifacts").rglob("samples.jsonl")), "where docs/recipes.md says"


def test_nothing_is_lost_or_doubled_while_the_database_is_away(
    database: Database, tmp_path: Path, ray_head: Any
) -> None:
    """It stops while a trial runs, and starts again once the trial has ended and the next one runs."""
    storage, log = tmp_path / "storage", tmp_path / "watch.log"
    prepare(storage, {"full": 0.67, "B": 0.6, "C": 0.65}, steps=20, pause=0.5, hold=True)
    with Server(database.uri, tmp_path / "artifacts", port=free_port(), log=tmp_path / "server.log") as server:
        options = ("--tracking-uri", server.url, "--skip-preflight")
        process = driver(storage, *options, address=ray_head.address)
        watch = [sys.executable, "-m", "cluster", "status", "--watch", "--every", "1", "--tracking-uri", server.url]
        try:
            wait_for(lambda: events(storage, "step"), 180, "full runs")
            with log.open("w") as out:
                watcher = subprocess.Popen([*watch, "--name", NAME], stdout=out, stderr=subprocess.STDOUT, cwd=ROOT)
            wait_for(lambda: "1 running" in log.read_text(), 90, "the watcher sees it")
            (storage / "go").touch()
            wait_for(lambda: has_points(server.url, "full"), 60, "a point of the trial is in the database")
            database.stop()
            try:
                wait_for(lambda: "B" in events(storage, "step"), 120, "the trial ends and the next one runs")
                time.sleep(5)
                assert watcher.poll() is None, log.read_text()
            finally:
                database.start()
            assert process.wait(240) == 0, driver_log(storage)
            assert watcher.wait(90) == 0, log.read_text()
        finally:
            end(process)
        assert "3 finished; nobody runs it" in log.read_text()
        assert "not sent" not in driver_log(storage)
        runs = mlflow_records.trials(server.url, NAME)  # fails if a trial has two
        assert set(runs) == {"full", "B", "C"}
        assert {run.info.status for run in mlflow_records.runs(server.url, NAME)} == {"FINISHED"}
        for folder in (storage / NAME / "trials").iterdir():
            run = runs[folder.name.split("-")[0]]
            sent = mlflow_records.without_totals(mlflow_records.points(server.url, run.info.run_id))
            assert mlflow_records.logged_points(folder) <= sent
            assert set(sent.values()) == {1}, "each point once"
        order = ["phase", "variant"]
        own, there = dataframes.from_folder(storage / NAME), dataframes.from_mlflow(server.url, NAME)
        assert list(own.sort_values(order)["accuracy/bridged"]) == list(there.sort_values(order)["accuracy/bridged"])


def has_points(uri: str, variant: str) -> bool:
    return bool(mlflow_records.trials(uri, NAME)[variant].data.metrics)
