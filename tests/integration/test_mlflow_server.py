"""A real MLflow server over HTTP, and everything that can happen to it, to the driver and to their answers.

What is promised: the job's spool is written at its own pace whatever MLflow does, and in the end every point is in
MLflow exactly once, in one run a trial.
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

import pytest

from mlflow_utils.server import Server
from mlflow_utils.tracker import Tracker
from tests.support import mlflow_records
from tests.support.campaign_folder import START, begin_trial, emit, end_trial, make_campaign, status_event, step_event
from tests.support.ports import free_port
from tests.support.tracked_campaigns import declare
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The address of a server that is not up yet."""
    root = tmp_path_factory.mktemp("server")
    server = Server(f"sqlite:///{root}/mlflow.db", root / "artifacts", port=free_port(), log=root / "server.log")
    yield server
    server.stop(signal.SIGKILL)


@pytest.fixture
def server(home: Server) -> Server:
    """The server, up."""
    if home.process is None:
        home.start()
        home.wait()
    return home


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setattr("mlflow_utils.sync.sender.PATIENCE", 2.0)


WRITER = """
import json, sys, time
from pathlib import Path
from tests.support.campaign_folder import START, emit, end_trial, status_event, step_event
folder, pause = Path(sys.argv[1]), 0.05
longest, step, begin = 0.0, 0, time.monotonic()
emit(folder, status_event("RUNNING"))
while not (folder / "enough").exists():
    step += 1
    before = time.monotonic()
    emit(folder, step_event(step, START + step))
    longest = max(longest, time.monotonic() - before)
    time.sleep(pause)
a_step = (time.monotonic() - begin) / step - pause
end_trial(folder, steps=step)
print(json.dumps([longest, a_step]))
"""


class Job:
    """A job that writes its spool, in a process of its own as a job does, until it is told that it is enough."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def lines(self) -> int:
        """Number of events so far."""
        return len((self.folder / "events.jsonl").read_text().splitlines())

    def end(self) -> None:
        """End the job and check that no step waited for anything."""
        (self.folder / "enough").touch()
        output, _ = self.process.communicate(timeout=30)
        longest, a_step = json.loads(output)
        assert longest < 0.5
        assert a_step < 0.05, "seconds a step took beside its own pause of 0.05 s"


def assert_all_there_once(uri: str, campaign: str, folder: Path, variant: str) -> None:
    """Every point of a trial's spool is in its one run once, and no run of the campaign is open."""
    run = mlflow_records.trials(uri, campaign)[variant]
    assert mlflow_records.as_spooled(mlflow_records.points(uri, run.info.run_id)) == mlflow_records.spooled(folder)
    assert {other.info.status for other in mlflow_records.runs(uri, campaign)} == {"FINISHED"}


def test_a_server_down_at_start_up_later_killed_and_up_again_costs_nothing(home: Server, tmp_path: Path) -> None:
    campaign = tmp_path / "outages"
    folder = begin_trial(campaign, "full")
    tracker = Tracker(home.url, "outages", campaign)
    tracker.start()
    begin = time.monotonic()
    tracker.phase("phase1", {}, {})
    declare(tracker, folder)
    assert time.monotonic() - begin < 0.5, "no call of the driver waits for a server"
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
    assert time.monotonic() - begin < 0.5
    home.start()
    home.wait()
    job.end()
    tracker.finish("phase1", "FINISHED")
    assert tracker.close(60) is None
    assert_all_there_once(home.url, "outages", folder, "full")


def some_points(uri: str, campaign: str) -> int:
    """Number of values in the trials' runs."""
    return sum(len(run.data.metrics) for run in mlflow_records.trials(uri, campaign).values())


def test_a_server_that_hangs_costs_nothing_and_gets_each_point_once(server: Server, tmp_path: Path) -> None:
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
    assert time.monotonic() - begin < 0.5
    time.sleep(4)
    server.signal(signal.SIGCONT)
    time.sleep(1)
    server.signal(signal.SIGSTOP)
    time.sleep(1)
    job.end()
    tracker.finish("phase1", "FINISHED")
    begin = time.monotonic()
    unsent = tracker.close(3)
    assert time.monotonic() - begin < 6, "closing waits as long as it was told to"
    assert unsent is not None
    assert unsent.trials == 1
    server.signal(signal.SIGCONT)
    assert Tracker.replay(server.url, "hung", campaign) is None
    assert_all_there_once(server.url, "hung", folder, "full")


class LossyProxy:
    """Stands between client and server and loses answers after the server has acted.

    `lose` says how many answers to requests that contain a text.
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


def test_answers_that_are_lost_make_nothing_twice(server: Server, tmp_path: Path) -> None:
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
    assert not any(proxy.lose.values()), "these answers arrived after all"
    assert len(mlflow_records.runs(server.url, "lossy")) == 3
    for folder in (campaign / "trials").iterdir():
        assert_all_there_once(server.url, "lossy", folder, folder.name.split("-")[0])


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


def test_a_driver_killed_in_mid_sending_is_replayed_without_doubles(server: Server, tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, "killed", variants=["full", "B", "C"], steps=1500)
    folders = sorted((campaign / "trials").iterdir())
    for _ in range(3):
        sent = progress(folders)
        command = [sys.executable, "-c", DRIVER, server.url, str(campaign)]
        with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as driver:
            wait_for(lambda sent=sent: progress(folders) > sent)  # type: ignore[misc]
            os.kill(driver.pid, signal.SIGKILL)
    assert any(size_left(folder) for folder in folders), "the driver has to be killed before all is sent"
    tracker = Tracker(server.url, "killed", campaign)
    tracker.start()
    tracker.phase("phase1", {}, {})
    tracker.finish("phase1", "FINISHED")
    assert tracker.close(100) is None
    assert len(mlflow_records.runs(server.url, "killed")) == 4
    for folder in folders:
        assert_all_there_once(server.url, "killed", folder, folder.name.split("-")[0])


def progress(folders: list[Path]) -> int:
    """Bytes of the spools that are confirmed."""
    total = 0
    for folder in folders:
        state = folder / "events.sent.json"
        total += sum(entry["position"] for entry in json.loads(state.read_text()).values()) if state.exists() else 0
    return total


def size_left(folder: Path) -> int:
    """Bytes of a spool that are not confirmed."""
    return (folder / "events.jsonl").stat().st_size - progress([folder])


def test_a_resume_over_http_makes_no_second_run(server: Server, tmp_path: Path) -> None:
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
