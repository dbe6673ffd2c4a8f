"""`--notify URL` from end to end: a real run posts to a real server, which may also hang or refuse."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.campaigns import driver, driver_log, end, events, prepare

pytestmark = pytest.mark.slow


class Hook(http.server.BaseHTTPRequestHandler):
    """Takes notices; the first `hangs` of them get no answer, the next `refuses` the status 500."""

    received: list[dict[str, Any]]
    hangs = refuses = 0

    def do_POST(self) -> None:
        notice = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind = type(self)
        if kind.hangs:
            kind.hangs -= 1
            time.sleep(60)
        status = 500 if kind.refuses else 204
        kind.refuses = max(0, kind.refuses - 1)
        if status == 204:
            self.received.append(notice)
        self.send_response(status)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def listening(**how: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    received: list[dict[str, Any]] = []
    kind = type("OwnHook", (Hook,), {"received": received, **how})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", received
    server.shutdown()
    server.server_close()


def run(storage: Path, url: str, address: str) -> tuple[int, float]:
    """Run phase 1, in which B fails; return the exit code and the seconds from the last trial's end to the driver's."""
    prepare(storage, {"full": 0.67, "B": 0.6, "C": 0.65}, steps=2, pause=1.0, fail=["B"])
    process = driver(storage, "--notify", url, "--skip-preflight", address=address)
    try:
        code = process.wait(120)
    finally:
        end(process)
    last = max((storage / "phase1-tiny" / "trials").glob("*/result.json"), key=lambda path: path.stat().st_mtime)
    return code, time.time() - last.stat().st_mtime


def test_a_decision_a_failure_and_the_end_arrive(tmp_path: Path, ray_head: Any) -> None:
    with listening() as (url, received):
        code, _ = run(tmp_path, url, ray_head.address)
    assert code == 1, "a trial failed"
    assert [notice["event"] for notice in received] == ["decision", "failure", "end"]
    decision, failure, last = received
    assert (decision["branch"], decision["accuracy"]) == ("attribute", 0.67)
    assert failure["variant"] == "B"
    assert "B cannot be run" in failure["error"]
    assert last["trials"] == {"finished": 2, "failed": 1, "left": 0}
    assert decision["time"] <= failure["time"] <= last["time"]


def test_a_server_that_hangs_and_then_refuses_costs_nothing_but_the_notices(tmp_path: Path, ray_head: Any) -> None:
    with listening(hangs=1, refuses=99) as (url, received):
        code, after = run(tmp_path, url, ray_head.address)
    assert code == 1
    assert received == []
    assert events(tmp_path, "end") == ["full", "C"]
    assert driver_log(tmp_path).count(f"warning: --notify {url.removesuffix('hook')}***: ") == 1
    assert after < 30, "the end waited for the server once"
