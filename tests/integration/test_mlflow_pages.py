"""MLflow's pages as a person meets them: `ui` serves the store, and a browser opens the addresses that are printed.

Needs Chromium and its driver (Debian: `apt-get install chromium chromium-driver`); without them the test is skipped.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.support.wait import WebDriverWait

from cluster.monitoring.run_pages import attached
from cluster.monitoring.toggle_effects import write_attribution
from cluster.monitoring.tracking import recorded
from mlflow_utils.pages import campaign_url, phase_url, run_url
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support.browsers import chromium, needs_chromium
from tests.support.card_campaigns import make_ended
from tests.support.mlflow_store import copy_database
from tests.support.servers import mlflow_pages
from tune_spaces.campaign import Campaign
from tune_spaces.card.write import write_card

pytestmark = [pytest.mark.slow, needs_chromium]
VARIANTS = {"full", "no-kl", "no-prompt", "no-decode", "no-projection", "k8", "k64"}
TEXT = "return document.body.innerText"
HEADINGS = """
const place = (e) => [e.getBoundingClientRect().x, e.innerText.trim()];
const cells = [...document.querySelectorAll('.ag-header-cell')].map(place);
return cells.sort((a, b) => a[0] - b[0]).map(cell => cell[1]);
"""
NAMES = "return [...document.querySelectorAll('a[href*=\"/runs/\"]')].map(e => e.innerText.trim())"
# The names of the axes of a chart of parallel coordinates, from left to right.
AXES = "return [...document.querySelectorAll('.parcoords .dimension text.label')].map(e => e.textContent)"
# The same on the page that compares runs.
TITLES = "return [...document.querySelectorAll('.parcoords .axis-title')].map(e => e.textContent)"
# The colours of a chart's bars.
BARS = "return [...document.querySelectorAll('.barlayer .point path')].map(bar => getComputedStyle(bar).fill)"
# Red, green and blue of its highest and lowest line, left of the last axis.
LINES = """
const axes = [...document.querySelectorAll('.parcoords .dimension')];
const canvas = document.querySelector('.parcoords canvas.foreground'), left = canvas.getBoundingClientRect().left;
const scale = canvas.width / canvas.getBoundingClientRect().width;
const x = axes.at(-1).querySelector('.domain').getBoundingClientRect().left - left - 4;
const data = canvas.getContext('2d').getImageData(Math.round(x * scale), 0, 1, canvas.height).data;
const drawn = [];
for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 60) drawn.push([data[i], data[i + 1], data[i + 2]]);
return [drawn[0], drawn.at(-1)];
"""
ROWS = """
return [...document.querySelectorAll('tr, [role=row]')].map(row =>
    [...row.querySelectorAll('th, td, [role=cell], [role=columnheader], [role=gridcell]')].map(c => c.innerText.trim()))
"""


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Campaign:
    """Seven variants under one seed, recorded as a driver does it."""
    storage = copy_database(mlflow_database, tmp_path_factory.mktemp("runs"))
    made = make_ended(storage, seeds=(0,))
    with recorded(made, default_tracking_uri(storage), lambda: 60) as tracker, attached(made, tracker):
        write_card(made.folder)
        write_attribution(made)
    return made


@pytest.fixture(scope="module")
def address(campaign: Campaign) -> Iterator[str]:
    with mlflow_pages(campaign.storage) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium(width=2600, height=1200) as opened:
        yield opened


def shown(browser: Chrome, address: str, ready: Callable[[str], bool]) -> str:
    """Open an address, wait until the page's text is as it should be, and return it."""
    browser.get("about:blank")
    browser.get(address)
    WebDriverWait(browser, 60, 0.2).until(lambda page: ready(page.execute_script(TEXT)))
    return str(browser.execute_script(TEXT))


def test_a_campaign_opens_on_its_runs_with_settings_and_accuracies(
    campaign: Campaign, address: str, browser: Chrome
) -> None:
    port = int(address.rsplit(":", 1)[1])
    listening = Path("/proc/net/tcp").read_text()
    assert f" 0100007F:{port:04X}" in listening, "on the loopback interface"
    assert f" 00000000:{port:04X}" not in listening, "and on no other"

    page = campaign_url(campaign.folder, default_tracking_uri(campaign.storage), address)
    assert page is not None
    text = shown(browser, page, lambda text: "no-projection (seed 0)" in text and "gain" in text)
    assert "Error loading shared view state" not in text
    headings = list(dict.fromkeys(filter(None, browser.execute_script(HEADINGS))))
    wanted = [*(f"toggle.{key}" for key in ("kl", "prompt", "decode", "projection")), "soft_tokens", "seed"]
    wanted += ["accuracy/bridged", "accuracy_low/bridged", "accuracy_high/bridged", "gain"]
    assert [heading for heading in headings if heading in wanted] == wanted
    listed = [name for name in browser.execute_script(NAMES) if "(seed" in name]
    accuracies = {
        f"{trial.variant} (seed {trial.seed})": campaign.trial(name).result()["metrics"]["accuracy/bridged"]  # type: ignore[index]
        for name, trial in campaign.plan.trials.items()
    }
    assert [accuracies[name] for name in listed] == sorted(accuracies.values(), reverse=True)
    assert len(listed) == len(VARIANTS)


def test_its_charts_open_on_accuracy_by_settings(campaign: Campaign, address: str, browser: Chrome) -> None:
    page = campaign_url(campaign.folder, default_tracking_uri(campaign.storage), address, charts=True)
    assert page is not None
    first, others = (
        re.compile(r"^accuracy by settings\s*\(2\)", re.M),
        re.compile(r"^(accuracy|loss|detail)\s*\(", re.M),
    )
    text = shown(browser, page, lambda text: bool(first.search(text) and "Parallel Coordinates" in text))
    own = first.search(text)
    assert own is not None
    assert all(own.start() < other.start() for other in others.finditer(text)), "the campaign's own section comes first"
    WebDriverWait(browser, 60, 0.2).until(lambda opened: len(opened.execute_script(BARS)) == len(VARIANTS))
    assert len(set(browser.execute_script(BARS))) == len(VARIANTS), "each variant has a colour of its own"


def test_its_parallel_coordinates_open_on_accuracy(campaign: Campaign, address: str, browser: Chrome) -> None:
    page = campaign_url(campaign.folder, default_tracking_uri(campaign.storage), address, charts=True)
    assert page is not None
    shown(browser, page, lambda text: "Parallel Coordinates" in text)
    axes = WebDriverWait(browser, 60, 0.2).until(lambda opened: opened.execute_script(AXES))
    toggles = [f"toggle.{key}" for key in ("kl", "prompt", "decode", "projection")]
    assert axes == [*toggles, "soft_tokens", "accuracy/bridged"]
    highest, lowest = browser.execute_script(LINES)
    assert highest[0] > 100 > max(highest[1:]), "red: lines are coloured by the last axis"
    assert max(lowest) < 100, "nearly black"


def test_the_compare_page_has_a_column_a_trial_with_its_toggles(
    campaign: Campaign, address: str, browser: Chrome
) -> None:
    page = phase_url(campaign.folder, default_tracking_uri(campaign.storage), None, address)
    shown(browser, page, lambda text: "toggle.projection" in text and "Comparing 7 Runs from 1 Experiment" in text)
    rows = {row[0].rstrip(":"): row[1:] for row in browser.execute_script(ROWS) if len(row) == len(VARIANTS) + 1}
    names = [name.removesuffix(" (seed 0)") for name in rows["Run Name"]]
    assert set(names) == VARIANTS
    for key in ("kl", "prompt", "decode", "projection"):
        assert rows[f"toggle.{key}"] == ["off" if name == f"no-{key}" else "on" for name in names]
    assert not any(cell.startswith("-") for cell in rows["Duration"])
    assert "kl_alignment" not in rows, "no toggle twice"
    axes = WebDriverWait(browser, 30, 0.2).until(lambda opened: opened.execute_script(TITLES))
    assert axes[-1] == "validation/accuracy/bridged", "parallel coordinates open on an accuracy"


@pytest.mark.parametrize(
    ("artifact", "inside"),
    [
        ("card.html", "What was not run"),
        ("gate.html", "Gate of spring"),
        ("appendix/appendix.html", "Attribution appendix of spring"),
    ],
)
def test_the_campaigns_pages_are_artifacts_that_render(
    campaign: Campaign, address: str, browser: Chrome, artifact: str, inside: str
) -> None:
    route = run_url(campaign.folder, default_tracking_uri(campaign.storage), "phase1", artifact)
    assert route is not None
    shown(browser, f"{address}/{route}", lambda text: artifact.rsplit("/", 1)[-1] in text)
    WebDriverWait(browser, 60, 0.2).until(lambda page: inside in in_frame(page))


def in_frame(browser: Chrome) -> str:
    """Return the text of the page's frame, in which MLflow shows an HTML artifact."""
    frames = browser.find_elements("css selector", "iframe")
    if not frames:
        return ""
    browser.switch_to.frame(frames[0])
    try:
        text: Any = browser.execute_script(TEXT)
        return str(text)
    finally:
        browser.switch_to.default_content()


def test_the_run_of_a_phase_says_what_came_out_and_links_its_pages(
    campaign: Campaign, address: str, browser: Chrome
) -> None:
    route = run_url(campaign.folder, default_tracking_uri(campaign.storage), "phase1")
    text = shown(browser, f"{address}/{route}", lambda text: "gate: passed" in text or "gate: below" in text)
    assert "Goal: bridged accuracy of at least 70 %" in text
    links = "return [...document.querySelectorAll('a')].map(a => a.getAttribute('href') || '')"
    assert {"card.html", "gate.html", "appendix/appendix.html"} <= {
        link.split("/artifacts/")[1].split("?")[0] for link in browser.execute_script(links) if "/artifacts/" in link
    }
