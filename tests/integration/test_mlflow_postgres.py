"""MLflow on a real PostgreSQL: a server on the database, a campaign recorded through it, and the same table back.

Needs PostgreSQL's programs (Debian: `apt-get install postgresql`) and psycopg; without them the test is skipped.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from mlflow_utils import dataframes
from mlflow_utils.server import Server
from mlflow_utils.tracking_uri import check
from tests.support.campaign_folder import make_campaign
from tests.support.ports import free_port
from tests.support.tracked_campaigns import record

pytest.importorskip("psycopg")
INITDB, CONTROL = shutil.which("initdb"), shutil.which("pg_ctl")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (INITDB and CONTROL), reason="no PostgreSQL: `make services` installs it"),
]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URI of a database of its own. The programs refuse to run as root and run as `postgres` then."""
    folder, port = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp")), free_port()
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres")
    data = folder / "data"

    def run(*command: str) -> None:
        subprocess.run([*as_user, *command], check=True, cwd=folder, stdout=subprocess.DEVNULL)

    try:
        run(str(INITDB), "-D", str(data), "-U", "mlflow", "-A", "trust", "--no-sync")
        options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
        run(str(CONTROL), "-D", str(data), "-l", str(folder / "log"), "-w", "-o", options, "start")
        try:
            yield f"postgresql://mlflow@127.0.0.1:{port}/postgres"
        finally:
            run(str(CONTROL), "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_campaign_is_recorded_through_a_server_on_postgresql(database: str, tmp_path: Path) -> None:
    check(database)
    campaign = make_campaign(tmp_path, variants=["full", "B"])
    with Server(database, tmp_path / "artifacts", port=free_port(), log=tmp_path / "server.log") as server:
        record(server.url, campaign)
        record(server.url, campaign)
        order = ["phase", "variant"]
        pd.testing.assert_frame_equal(
            dataframes.from_folder(campaign).sort_values(order, ignore_index=True),
            dataframes.from_mlflow(server.url, "demo").sort_values(order, ignore_index=True),
            check_like=True,
        )
    assert list((tmp_path / "artifacts").rglob("samples.jsonl"))
