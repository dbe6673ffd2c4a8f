"""A headless Chromium that opens files, driven by Selenium: Debian's packages chromium and chromium-driver."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.browsers import chromium


class Page:
    """One open page; every script that it runs is a function's body.

    Attributes:
        driver: Selenium's driver.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, hash_: str = "", *, width: int = 1280, dark: bool = False) -> None:
        """Open a card and wait until its answers can be used."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get("about:blank")
        self.driver.get(path.as_uri() + hash_)
        self.wait("return document.documentElement.dataset.ready === 'true'")

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a function's body in the page."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str) -> None:
        """Wait until a function's body returns something true."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, 60, poll_frequency=0.05).until(lambda driver: driver.execute_script(script))

    def choose(self, name: str, value: str) -> None:
        """Set a field of the page as a person does."""
        script = "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        self.run(script + "for (const k of ['input', 'change']) e.dispatchEvent(new Event(k))", name, value)

    def errors(self) -> list[str]:
        """Return what the console has received since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the addresses that the page has asked for since the last call, data and blank pages left out."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return [url for url in found if not url.startswith(("data:", "about:"))]

    def print(self, path: Path) -> None:
        """Write the page as it is printed, as a PDF file."""
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        printed = self.driver.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})
        path.write_bytes(base64.b64decode(printed["data"]))


@contextmanager
def page() -> Iterator[Page]:
    """Open a browser and yield its page; close it afterwards."""
    with chromium() as driver:
        driver.set_script_timeout(120)
        yield Page(driver)
