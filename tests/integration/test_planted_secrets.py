"""Secrets that stand around a run, in the environment, addresses and Git's remote, reach nothing that it leaves."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.variables import NOTIFY
from tests.support.campaigns import driver, driver_log, end, prepare
from tests.support.command_line import call

pytestmark = pytest.mark.slow
SECRET = "hidden7word"


class Refusing(http.server.BaseHTTPRequestHandler):
    """Repeats what it was asked, and takes nothing."""

    def do_POST(self) -> None:
        self.send_response(403, f"no access for {self.path}")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def planted() -> Iterator[dict[str, str]]:
    """Return variables with a secret each, among them a Git remote for every checkout."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            NOTIFY: f"http://me:{SECRET}@127.0.0.1:{server.server_port}/{SECRET}?token={SECRET}",
            "HF_TOKEN": f"hf_{SECRET}",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "MLFLOW_TRACKING_USERNAME": "me",
            "MLFLOW_TRACKING_PASSWORD": SECRET,
            "PGPASSWORD": SECRET,
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "remote.origin.url",
            "GIT_CONFIG_VALUE_0": f"https://me:{SECRET}@127.0.0.1:9/x.git",
        }
        server.shutdown()


def holding(folder: Path) -> list[str]:
    """Return the files below a folder that hold the secret, or have it in their name."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in files if SECRET in path.name or SECRET.encode() in path.read_bytes()]


def test_planted_secrets_reach_no_log_record_report_or_page(
    tmp_path: Path, planted: dict[str, str], ray_head: Any
) -> None:
    storage, session = tmp_path / "runs", Path(ray_head.head_node.get_session_dir_path())
    prepare(storage, {"full": 0.67, "B": 0.6, "C": 0.65}, samples=True, n=50, fail=["B"])
    small = ("--set", "test_examples=50", "--reports", str(storage / "reports"), "--skip-preflight")
    process = driver(storage, *small, address=ray_head.address, **planted)
    try:
        assert process.wait(200) == 1, "B failed"
    finally:
        end(process)
    log = driver_log(storage)
    assert "/***: HTTP Error 403: Forbidden" in log
    printed = [log]
    for command in (["status"], ["results"], ["card"], ["appendix"], ["report"], ["preflight"]):
        done = call(*command, "--storage", str(storage), RAY_ADDRESS=ray_head.address, **planted)
        printed.append(done.stdout + done.stderr)
    assert [text for text in printed if SECRET in text] == []
    assert any(storage.rglob("card*.html")), "there is a card among what was looked at"
    assert holding(storage) == holding(session) == []
