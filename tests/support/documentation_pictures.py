"""Make the pictures of docs/ again: a card and MLflow's pages of a campaign of seven variants with made answers.

    python -m tests.support.documentation_pictures [FOLDER]

Needs Chromium and its driver. Each picture is a whole page in the light scheme, at one and a half pixels a point.
"""

import io
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from selenium.webdriver.support.wait import WebDriverWait

from cluster.monitoring.run_pages import attached
from cluster.monitoring.toggle_effects import write_attribution
from cluster.monitoring.tracking import recorded
from mlflow_utils.pages import campaign_url, phase_url
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support.browsers import chromium
from tests.support.card_campaigns import make_ended
from tests.support.mlflow_store import copy_database, empty_database
from tests.support.servers import mlflow_pages
from tune_spaces.campaign import Campaign
from tune_spaces.card.write import write_card

DOCS = Path(__file__).parents[2] / "docs"
SCALE, COLOURS = 1.5, 128
TEXT = "return document.body.innerText.includes('{}')"
NO_ASSISTANT = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
DRAWN = "return document.querySelectorAll('.parcoords text').length > 0"
SECTION_HEIGHT = "return document.getElementById('answers').getBoundingClientRect().height"
CARD_ENDS = "return document.getElementById('controls').getBoundingClientRect().top + window.scrollY"


def campaign(storage: Path) -> Campaign:
    """Return seven variants under one seed, recorded as a driver does it."""
    database, lately = copy_database(empty_database(), storage), time.time() - 3600
    made = make_ended(database, seeds=(0,), hostile=False, start=lately)
    with recorded(made, default_tracking_uri(storage), lambda: 60) as tracker, attached(made, tracker):
        write_card(made.folder)
        write_attribution(made)
    return made


class Camera:
    """Takes pictures of pages with one browser."""

    def __init__(self, browser: Any, folder: Path) -> None:
        self.browser, self.folder = browser, folder

    def open(self, address: str, ready: str, *, width: int, height: int) -> None:
        """Open an address in a window of a size, and wait until a script returns true and nothing moves any more."""
        self._resize(width, height)
        self.browser.get("about:blank")
        self.browser.get(address)
        WebDriverWait(self.browser, 120, 0.2).until(lambda page: page.execute_script(ready))
        self._wait_until_still()

    def _resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": SCALE, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})

    def _wait_until_still(self) -> None:
        last = b""
        while (now := self.browser.get_screenshot_as_png()) != last:
            last = now
            time.sleep(2)

    def take(self, name: str, *, width: int, height: int, of: str | None = None) -> None:
        """Write the page's upper left part, or one of its sections, as a picture of few colours, which is small.

        The window gets the picture's size: a capture beyond the window would resize the page for a moment, in which
        MLflow begins its charts again.
        """
        self._resize(width, height)
        if of is not None:
            self.browser.execute_script(f"document.getElementById('{of}').scrollIntoView()")
        self._wait_until_still()
        whole = Image.open(io.BytesIO(self.browser.get_screenshot_as_png())).convert("RGB")
        picture = whole.quantize(COLOURS, dither=Image.Dither.NONE)
        picture.save(self.folder / name, optimize=True)
        print(self.folder / name, picture.size, (self.folder / name).stat().st_size)


def main(folder: Path) -> None:
    """Write all pictures into a folder."""
    with tempfile.TemporaryDirectory() as place, chromium(width=1280, height=900) as browser:
        storage, camera = Path(place), Camera(browser, folder)
        made, uri = campaign(storage), default_tracking_uri(storage)
        card = (made.folder / "card.html").as_uri()
        camera.open(card, TEXT.format("Provenance"), width=1200, height=900)
        camera.take("card.png", width=1200, height=round(browser.execute_script(CARD_ENDS)))
        camera.open(f"{card}#item=test-0", TEXT.format("words that the bridged answer"), width=1200, height=900)
        height = round(browser.execute_script(SECTION_HEIGHT))
        camera.take("card-answers.png", width=1200, height=height, of="answers")
        with mlflow_pages(storage) as address:
            runs, charts = campaign_url(made.folder, uri, address), campaign_url(made.folder, uri, address, charts=True)
            browser.get(address)
            browser.execute_script(NO_ASSISTANT)
            camera.open(str(runs), TEXT.format("no-projection (seed 0)"), width=2040, height=700)
            camera.take("mlflow-runs.png", width=2040, height=700)
            camera.open(str(charts), DRAWN, width=1700, height=1110)
            camera.take("mlflow-charts.png", width=1700, height=1110)
            camera.open(phase_url(made.folder, uri, None, address), DRAWN, width=1900, height=1900)
            camera.take("mlflow-compare.png", width=1900, height=1900)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
