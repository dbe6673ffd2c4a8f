"""The card in a real Chromium: filters, links to items, light and dark, print, accessibility, no network."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browsers import needs_chromium
from tests.support.card_campaigns import make_ended
from tests.support.pages import Page, page
from tune_spaces.card.write import write_card

pytestmark = [needs_chromium, pytest.mark.slow]
LISTED = "return [...document.querySelectorAll('#list button')].map(b => b.querySelector('.head').firstChild.innerText)"
COUNT = "return Number(document.getElementById('count').innerText.split(' ')[0])"
ITEM = "return document.querySelector('#item').innerText"
FAULTS = """
const done = arguments[arguments.length - 1];
axe.run(document).then(found => done(found.violations.map(v => [v.id, v.help, v.nodes.slice(0, 3).map(n => n.html)])));
"""


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_card(make_ended(tmp_path_factory.mktemp("runs"), unfinished=1).folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with page() as opened:
        yield opened


def faults(browser: Page) -> list[str]:
    import axe_core_python

    bundle = next(Path(axe_core_python.__file__).parent.glob("axe.min.js"))
    browser.run(bundle.read_text(encoding="utf-8"))
    return browser.driver.execute_async_script(FAULTS)


def test_filters_search_and_the_link_to_an_item(card: Path, browser: Page) -> None:
    browser.errors()
    browser.requests()
    browser.open(card)
    assert browser.run(COUNT) == 200
    both = "return [...document.querySelectorAll('#filter option')].map(o => o.value)"
    assert {"gained", "lost", "informed", "missed", "none"} <= set(browser.run(both))
    browser.choose("filter", "gained")
    gained = browser.run(COUNT)
    assert 0 < gained < 200
    marks = browser.run("return [...document.querySelectorAll('#list .marks')].map(m => m.innerText)")
    assert all(mark[0] == "●" and mark[1] != "●" for mark in marks), "bridged solves it and the target alone does not"
    browser.choose("against", "3")
    browser.choose("filter", "first")
    assert 0 < browser.run(COUNT) < 200
    browser.choose("filter", "all")
    browser.choose("search", "test-42")
    assert browser.run(LISTED) == ["test-42"]
    browser.run("document.querySelector('#list button').click()")
    browser.wait("return document.querySelectorAll('#item .answer').length === 7")
    assert "test-42" in browser.run(ITEM)
    assert browser.run("return document.querySelectorAll('#item mark').length") > 0
    link = browser.run("return location.hash")
    assert link.startswith("#item=test-42&trial=full")
    browser.open(card, link)
    browser.wait("return document.querySelectorAll('#item .answer').length === 7")
    assert "test-42" in browser.run(ITEM)
    assert browser.run("return document.getElementById('against').value") == "3"
    assert browser.errors() == []
    assert {url.split("#")[0] for url in browser.requests()} == {card.as_uri()}


def test_what_a_model_wrote_is_shown_and_never_run(card: Path, browser: Page) -> None:
    browser.open(card, "#item=test-0")
    browser.wait("return document.querySelectorAll('#item .answer').length === 6")
    assert "It is <script>window.hostile = 1</script>" in browser.run(ITEM)
    assert "␛[31mred" in browser.run(ITEM)
    assert "\\u202enuf\\u202c" in browser.run(ITEM)
    assert browser.run("return window.hostile === undefined")
    browser.open(card, "#item=odd+id+%22%26%3Cb%3E%23%C3%A9")
    browser.wait("return document.querySelectorAll('#item .answer').length === 6")
    assert 'odd id "&<b>#é' in browser.run(ITEM)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (1280, True)])
def test_axe_finds_no_fault_and_nothing_is_wider_than_the_page(
    card: Path, browser: Page, width: int, dark: bool
) -> None:
    browser.open(card, "#item=test-7", width=width, dark=dark)
    browser.wait("return document.querySelectorAll('#item .answer').length === 6")
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert faults(browser) == []
    assert browser.run("return document.documentElement.scrollWidth") <= width
    ground = browser.run("return getComputedStyle(document.documentElement).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(", "))) < 200) is dark


def test_a_phone_shows_accuracy_and_gain_without_scrolling(card: Path, browser: Page) -> None:
    browser.open(card, width=390)
    ends = """
        const rows = [...document.querySelectorAll('#variants tbody tr')];
        return rows.map(row => row.cells[3].querySelector('.value').getBoundingClientRect().right);
    """
    places = browser.run(ends)
    assert len(places) == 7
    assert max(places) < 390


def test_texts_in_files_beside_the_page_are_read_when_they_are_needed(
    card: Path, browser: Page, tmp_path: Path
) -> None:
    card = write_card(Path(shutil.copytree(card.parent, tmp_path / "spring")), inline_limit=60_000)
    browser.open(card, "#item=test-7")
    browser.requests()
    browser.choose("trial", "9")
    browser.wait("return document.querySelector('#item .answer pre').innerText.includes('####')")
    assert any("card_answers/9-" in url for url in browser.requests())
    for path in (card.parent / "card_answers").glob("10-*.js"):
        path.unlink()
    browser.choose("trial", "10")
    browser.wait("return document.querySelector('#item .warning')")
    assert "keep it beside this page" in browser.run(ITEM)


def test_it_prints_with_its_charts_and_without_the_browser(card: Path, browser: Page, tmp_path: Path) -> None:
    browser.open(card)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    visible = "return getComputedStyle(document.querySelector(arguments[0])).display !== 'none'"
    try:
        assert not browser.run(visible, ".browser")
        assert browser.run(visible, ".panel svg")
        assert browser.run(visible, ".chart svg")
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.print(tmp_path / "card.pdf")
    assert (tmp_path / "card.pdf").read_bytes().startswith(b"%PDF")
