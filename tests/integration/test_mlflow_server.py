"""Syncing to a real MLflow server over HTTP, while the server, the driver or their connection fails.

Whatever MLflow does, the job is not slowed down, and in the end every point is in MLflow exactly once, in one run per
trial.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from mlflow_utils.server import Server
from mlflow_utils.tracker import Tracker
from tests.support import mlflow_records
from tests.support.campaign_folder import START, begin_trial, emit, end_trial, make_campaign, status_event, step_event
from tests.support.mlflow_store import copy_database
from tests.support.ports import free_port
from tests.support.tracked_campaigns import declare
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Iterator[Server]:
    """A server that is not started yet."""
    root = copy_database(mlflow_database, tmp_path_factory.mktemp("server"))
    server = Server(f"sqlite:///{root}/mlflow.db", root / "artifacts", port=free_port(), log=root / "server.log")
    yield server
    server.stop(signal.SIGKILL)


@pytest.fixture
def server(home: Server) -> Server:
    """The server, started."""
    if home.process is None:
        home.start()
        home.wait()
    return home


REQUEST_TIMEOUT_S = 4
"""A call that asked a server that hangs would take so long at least."""


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", f"{REQUEST_TIMEOUT_S}")
    monkeypatch.setattr("mlflow_utils.sync.sender.MAX_RETRY_DELAY", 2.0)


WRITER = """
import json, sys, time
from pathlib import Path
from tests.support.campaign_folder import START, emit, end_trial, status_event, step_event
folder, pause = Path(sys.argv[1]), 0.05
longest, step, begin = 0.0, 0, time.process_time()
emit(folder, status_event("RUNNING"))
while not (folder / "enough").exists():
    step += 1
    before = time.monotonic()
    emit(folder, step_event(step, START + step))
    longest = max(longest, time.monotonic() - before)
    time.sleep(pause)
a_step = (time.process_time() - begin) / step
end_trial(folder, steps=step)
print(json.dumps([longest, a_step]))
"""


class Job:
    """A process that appends to its event log, as a job does, until `end`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def lines(self) -> int:
        """Return the number of events so far."""
        return len((self.folder / "events.jsonl").read_text().splitlines())

    def end(self) -> None:
        """End the job and check that no step was slowed down."""
        (self.folder / "enough").touch()
        output, _ = self.process.communicate(timeout=30)
        longest, a_step = json.loads(output)
        assert longest < REQUEST_TIMEOUT_S
        assert a_step < 0.05, "seconds of the processor"


def assert_sent_once(uri: str, campaign: str, folder: Path, variant: str) -> None:
    """Check that a trial's run has every point of its event log once, and that all runs are finished."""
    with mock.patch.dict(os.environ, MLFLOW_HTTP_REQUEST_TIMEOUT="60"):  # a busy server answers the test late, too
        run = mlflow_records.trials(uri, campaign)[variant]
        sent = mlflow_records.without_totals(mlflow_records.points(uri, run.info.run_id))
        assert sent == mlflow_records.logged_points(folder)
        assert {other.info.status for other in mlflow_records.runs(uri, campaign)} == {"FINISHED"}


def test_a_server_that_starts_late_and_is_killed_and_restarted(home: Server, tmp_path: Path) -> None:
    home.stop(signal.SIGKILL)  # if another test has started it
    campaign = tmp_path / "outages"
    folder = begin_trial(campaign, "full")
    tracker = Tracker(home.url, "outages", campaign)
    tracker.start()
    begin = time.monotonic()
    tracker.phase("phase1", {}, {})
    declare(tracker, folder)
    assert time.monotonic() - begin < REQUEST_TIMEOUT_S, "no call of the driver waits for a server"
    job = Job(folder)
    home.start()
    home.wait()
    wait_for(lambda: "outages" in [e.name for e in mlflow_records.client(home.url).search_experiments()])
    wait_for(lambda: some_points(home.url, "outages") > 0)
    home.stop(signal.SIGKILL)
    before = job.lines()
    time.sleep(2)
    assert job.lines() > before, "the job goes on while the server is dead"
    begin = time.monotonic()
    tracker.phase("phase1", {"more": 1}, {})
    assert time.monotonic() - begin < REQUEST_TIMEOUT_S
    home.start()
    home.wait()
    job.end()
    tracker.finish("phase1", "FINISHED")
    assert tracker.close(60) is None
    assert_sent_once(home.url, "outages", folder, "full")


def some_points(uri: str, campaign: str) -> int:
    """Return the number of metrics in the trials' runs."""
    return sum(len(run.data.metrics) for run in mlflow_records.trials(uri, campaign).values())


def test_a_server_that_hangs_blocks_nothing_and_gets_each_point_once(server: Server, tmp_path: Path) -> None:
    campaign = tmp_path / "hung"
    folder = begin_trial(campaign, "full")
    tracker = Tracker(server.url, "hung", campaign)
    tracker.start()
    tracker.phase("phase1", {}, {})
    declare(tracker, folder)
    job = Job(folder)
    wait_for((folder / "events.sent.json").exists)
    server.signal(signal.SIGSTOP)
    begin = time.monotonic()
    tracker.phase("phase1", {"more": 1}, {})
    assert time.monotonic() - begin < REQUEST_TIMEOUT_S
    time.sleep(4)
    server.signal(signal.SIGCONT)
    time.sleep(1)
    server.signal(signal.SIGSTOP)
    time.sleep(1)
    job.end()
    tracker.finish("phase1", "FINISHED")
    begin = time.monotonic()
    unsent = tracker.close(3)
    assert time.monotonic() - begin < 6, "close waits no longer than its timeout"
    assert unsent is not None
    assert unsent.trials == 1
    server.signal(signal.SIGCONT)
    assert Tracker.replay(server.url, "hung", campaign) is None
    assert_sent_once(server.url, "hung", folder, "full")


class LossyProxy:
    """A proxy between client and server that drops responses after the server has acted.

    `lose` maps a text to the number of responses to drop among the requests that contain it.
    """

    def __init__(self, server: Server, lose: dict[str, int]) -> None:
        self._target = int(server.url.rsplit(":", 1)[1])
        self.lose = dict(lose)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            while True:
                request = self._message(client)
                if not request:
                    return
                server.sendall(request)
                answer = self._message(server)
                for mark, count in self.lose.items():
                    if mark.encode() in request and count > 0:
                        self.lose[mark] -= 1
                        return
                client.sendall(answer)

    @staticmethod
    def _message(source: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            part = source.recv(65536)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        while len(body) < length:
            body += source.recv(65536)
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        self._listener.close()


def test_lost_responses_duplicate_nothing(server: Server, tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, "lossy", variants=["full", "B"], steps=150)
    proxy = LossyProxy(server, {"experiments/create": 1, "runs/create": 2, '"loss/total"': 3, "runs/update": 1})
    tracker = Tracker(proxy.url, "lossy", campaign)
    tracker.start()
    tracker.phase("phase1", {}, {})
    for folder in sorted((campaign / "trials").iterdir()):
        declare(tracker, folder)
    tracker.finish("phase1", "FINISHED")
    unsent = tracker.close(60)
    proxy.close()
    assert unsent is None
    assert not any(proxy.lose.values()), "these responses were not dropped"
    assert len(mlflow_records.runs(server.url, "lossy")) == 3
    for folder in (campaign / "trials").iterdir():
        assert_sent_once(server.url, "lossy", folder, folder.name.split("-")[0])


DRIVER = """
import sys, time
from pathlib import Path
from mlflow_utils.tracker import Tracker
from tests.support.tracked_campaigns import declare
campaign = Path(sys.argv[2])
tracker = Tracker(sys.argv[1], campaign.name, campaign)
tracker.start()
tracker.phase("phase1", {}, {})
for folder in sorted((campaign / "trials").iterdir()):
    declare(tracker, folder)
time.sleep(120)
"""


def test_records_of_a_killed_driver_are_replayed_without_duplicates(server: Server, tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, "killed", variants=["full", "B", "C"], steps=1500)
    folders = sorted((campaign / "trials").iterdir())
    for _ in range(3):
        sent = progress(folders)
        command = [sys.executable, "-c", DRIVER, server.url, str(campaign)]
        with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as driver:
            wait_for(lambda sent=sent: progress(folders) > sent)  # type: ignore[misc]
            os.kill(driver.pid, signal.SIGKILL)
    assert any(size_left(folder) for folder in folders), "the driver must be killed before everything is sent"
    tracker = Tracker(server.url, "killed", campaign)
    tracker.start()
    tracker.phase("phase1", {}, {})
    tracker.finish("phase1", "FINISHED")
    assert tracker.close(100) is None
    assert len(mlflow_records.runs(server.url, "killed")) == 4
    for folder in folders:
        assert_sent_once(server.url, "killed", folder, folder.name.split("-")[0])


def progress(folders: list[Path]) -> int:
    """Return the number of bytes of the event logs that were sent."""
    total = 0
    for folder in folders:
        state = folder / "events.sent.json"
        total += sum(entry["position"] for entry in json.loads(state.read_text()).values()) if state.exists() else 0
    return total


def size_left(folder: Path) -> int:
    """Return the number of bytes of an event log that were not sent."""
    return (folder / "events.jsonl").stat().st_size - progress([folder])


def test_a_resume_over_http_creates_no_second_run(server: Server, tmp_path: Path) -> None:
    campaign = tmp_path / "resumed"
    folder = begin_trial(campaign, "full")
    for first, last in ((1, 30), (21, 50)):
        tracker = Tracker(server.url, "resumed", campaign)
        tracker.start()
        tracker.phase("phase1", {}, {})
        declare(tracker, folder)
        emit(folder, status_event("RUNNING", START + 100 * first))
        emit(folder, *(step_event(step, START + 100 * first + step) for step in range(first, last + 1)))
        if last == 30:
            assert tracker.close(60) is None
    end_trial(folder, steps=50)
    tracker.finish("phase1", "FINISHED")
    assert tracker.close(60) is None
    (run,) = mlflow_records.trials(server.url, "resumed").values()
    assert len(mlflow_records.runs(server.url, "resumed")) == 2
    history = mlflow_records.client(server.url).get_metric_history(run.info.run_id, "loss/total")
    assert [metric.step for metric in history] == list(range(1, 51))
    artifact = mlflow_records.client(server.url).download_artifacts(run.info.run_id, "result.json", str(tmp_path))
    assert Path(artifact).read_bytes() == (folder / "result.json").read_bytes()
