"""The UI as a person meets it: `ui` serves the store, and a browser opens the compare page of a phase.

Needs Chromium and its driver (Debian: `apt-get install chromium chromium-driver`); without them the test is skipped.
"""

import base64
import json
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from bridge_common.errors import UserError
from mlflow_utils.server import PORT, is_up, phase_url
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support.campaign_folder import TOGGLES, VARIANTS, make_campaign, make_trial
from tests.support.ports import free_port
from tests.support.tracked_campaigns import record
from tests.support.waiting import wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
SERVE = """
import sys
from pathlib import Path
from mlflow_utils.server import serve
root = Path(sys.argv[1])
sys.exit(serve(sys.argv[2], root, port=int(sys.argv[3]), echo=lambda text: print(text, flush=True)))
"""


class Browser:
    """A headless browser, spoken to in the WebDriver protocol."""

    def __init__(self, driver: str) -> None:
        self._driver = driver
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1600,1400"]
        options = {"binary": CHROMIUM, "args": arguments}
        asked = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        self._session = self._ask("POST", "/session", asked)["sessionId"]

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._driver + path, data, {"Content-Type": "application/json"}, method=method)
        with urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        self._ask("POST", f"/session/{self._session}/url", {"url": url})

    def run(self, script: str) -> Any:
        return self._ask("POST", f"/session/{self._session}/execute/sync", {"script": script, "args": []})

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._ask("GET", f"/session/{self._session}/screenshot")))

    def close(self) -> None:
        self._ask("DELETE", f"/session/{self._session}")


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser that is gone afterwards."""
    port = free_port()
    assert DRIVER is not None
    with subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        try:
            wait_for(lambda: _ready(f"http://127.0.0.1:{port}/status"))
            opened = Browser(f"http://127.0.0.1:{port}")
            try:
                yield opened
            finally:
                opened.close()
        finally:
            driver.terminate()


def _ready(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as answer:
            return bool(json.load(answer)["value"]["ready"])
    except OSError:
        return False


@contextmanager
def served(uri: str, root: Path) -> Iterator[str]:
    """The address of a store served as `ui` does it."""
    port = free_port()
    command = [sys.executable, "-c", SERVE, str(root), uri, str(port)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "MLflow:" in line)
            assert f"http://127.0.0.1:{port}" in line
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert process.returncode == 0
    assert not is_up(f"http://127.0.0.1:{port}"), "the server is gone with its command"


ROWS = """
return [...document.querySelectorAll('tr, [role=row]')].map(row =>
    [...row.querySelectorAll('th, td, [role=cell], [role=columnheader], [role=gridcell]')].map(c => c.innerText.trim()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium: apt-get install chromium chromium-driver")
def test_a_browser_shows_the_variants_of_a_phase_with_their_toggles(storage: Path) -> None:
    campaign, uri = make_campaign(storage), default_tracking_uri(storage)
    record(uri, campaign)
    with served(uri, storage) as address, browser() as page:
        port = int(address.rsplit(":", 1)[1])
        listening = Path("/proc/net/tcp").read_text()
        assert f" 0100007F:{port:04X}" in listening, "on the loopback interface"
        assert f" 00000000:{port:04X}" not in listening, "and on no other"

        page.open(phase_url(campaign, uri, "phase1", address))
        wait_for(lambda: "geometry_projection" in page.run("return document.body.innerText"))
        time.sleep(1)
        assert "Comparing 4 Runs from 1 Experiment" in page.run("return document.body.innerText")
        rows = {row[0].rstrip(":"): row[1:] for row in page.run(ROWS) if len(row) == 5}
        names = rows["Run Name"]
        assert sorted(names) == sorted(VARIANTS)
        for toggle in TOGGLES:
            assert rows[toggle] == [str(toggle in VARIANTS[name]) for name in names]
        assert not any(cell.startswith("-") for cell in rows["Duration"])
        shot = storage / "compare.png"
        page.screenshot(shot)
        width, height = struct.unpack(">II", shot.read_bytes()[16:24])
        assert width >= 1200
        assert height >= 1000
        assert shot.stat().st_size > 50_000, "a blank page packs into less"

        run = page.run('return decodeURIComponent(location.hash).match(/runs=\\["(\\w+)/)[1]')
        page.open(f"{address}/#/experiments/1/runs/{run}/model-metrics")
        groups = ("accuracy\n(6)", "loss\n(7)")
        wait_for(lambda: all(group in page.run("return document.body.innerText") for group in groups))
        page.screenshot(storage / "metrics.png")


def test_the_address_is_known_without_a_server(storage: Path) -> None:
    campaign, uri = make_campaign(storage, variants=["full"]), default_tracking_uri(storage)
    record(uri, campaign)
    with pytest.raises(UserError, match="1 of 1 trials"):
        phase_url(campaign, uri, "phase1")
    make_trial(campaign, "B")
    with pytest.raises(UserError, match="1 of 2 trials"):
        phase_url(campaign, uri, "phase1")
    record(uri, campaign)
    assert phase_url(campaign, uri, "phase1").startswith(f"http://127.0.0.1:{PORT}/#/compare-runs?runs=%5B%22")
    with pytest.raises(UserError, match="0 of 0 trials"):
        phase_url(campaign, uri, "phase9")
