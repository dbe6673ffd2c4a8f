"""MLflow's artifacts on a server that speaks S3's protocol: a campaign's card, gate, results and samples arrive."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
import pytest

from mlflow_utils.server import Server
from tests.support import mlflow_records
from tests.support.campaigns import NAME, driver, driver_log, end, prepare
from tests.support.command_line import call_here
from tests.support.ports import free_ports
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

BUCKET = "runs"


@contextmanager
def object_store(port: int) -> Iterator[Any]:
    """Run an empty object store with one bucket, and yield a client of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/moto-api/"), 60, "the object store answers")
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def run(storage: Path, cluster: Any, server: Server) -> str:
    """Run the campaign to its end, and return what the driver has printed."""
    (storage / "driver.log").unlink(missing_ok=True)
    options = ("--tracking-uri", server.url, "--skip-preflight", "--set", "test_examples=400")
    process = driver(storage, *options, address=cluster.address)
    try:
        assert process.wait(240) == 0, driver_log(storage)
    finally:
        end(process)
    return driver_log(storage)


def test_a_campaigns_artifacts_arrive_in_a_bucket_also_one_that_was_away(
    storage: Path, ray_head: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, servers_port = free_ports(2)
    settings = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    endpoint = f"http://127.0.0.1:{port}"
    for name in (*settings, "MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, settings.get(name, endpoint))
    prepare(storage, {"full": 0.72}, samples=True)
    server = Server(f"sqlite:///{storage}/mlflow.db", f"s3://{BUCKET}/m", port=servers_port, log=storage / "server.log")
    with server:
        for name in settings:  # campaigns need no key
            monkeypatch.delenv(name)
        log = run(storage, ray_head, server)
        assert "not in MLflow yet" in log, "the bucket is away, and the campaign ends all the same"
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        with object_store(port) as store:
            reported = call_here("report", "--storage", str(storage), "--out", str(storage / "paper"))
            assert "not in MLflow yet" not in reported.stdout, reported.stdout
            kept = {each["Key"]: each["Size"] for each in store.list_objects_v2(Bucket=BUCKET)["Contents"]}
            names = {Path(key).name for key in kept}
            assert {"card.html", "gate.html", "samples.jsonl", "result.json", "plan.json"} <= names
            assert not (storage / "mlartifacts").exists()
            (trial,) = mlflow_records.trials(server.url, NAME).values()
            sent = mlflow_records.client(server.url).download_artifacts(
                trial.info.run_id, "samples.jsonl", str(storage)
            )
            (folder,) = (storage / NAME / "trials").iterdir()
            assert Path(sent).read_bytes() == (folder / "samples.jsonl").read_bytes()
            card = next(key for key in kept if key.endswith("/card.html"))
            body = store.get_object(Bucket=BUCKET, Key=card)["Body"].read()
            assert body == (storage / NAME / "card.html").read_bytes()
        assert {run.info.status for run in mlflow_records.runs(server.url, NAME)} == {"FINISHED"}
