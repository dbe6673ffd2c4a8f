"""The card's content, read as text: it says what the appendix says, and escapes what models write."""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from bridge_common.errors import UserError
from tests.support.card_campaigns import HOSTILE, make_ended, planned
from tune_spaces.appendix.from_campaign import campaign_appendix
from tune_spaces.campaign import Campaign
from tune_spaces.card.bars import Scale
from tune_spaces.card.html import tag
from tune_spaces.card.write import write_card

BLOCK = re.compile(r'<script type="application/gzip" id="([^"]+)">([^<]*)</script>')


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return make_ended(tmp_path_factory.mktemp("runs"), unfinished=1)


@pytest.fixture(scope="module")
def page(campaign: Campaign) -> str:
    return write_card(campaign.folder).read_text(encoding="utf-8")


def unpacked(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def blocks_of(page: str) -> dict[str, Any]:
    return {name: unpacked(text) for name, text in BLOCK.findall(page)}


def words_of(page: str) -> str:
    """The page's text as a reader sees it, without scripts and tags."""
    shown = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", shown).split())


def test_the_card_says_what_the_appendix_says(campaign: Campaign, page: str) -> None:
    text = words_of(page)
    record = json.loads(campaign_appendix(campaign.folder)["appendix.json"].read_text(encoding="utf-8"))
    for outcome in record["outcomes"]:
        assert f"{100 * outcome['accuracy']:.1f} [{100 * outcome['low']:.1f}, {100 * outcome['high']:.1f}]" in text
    for gain in record["gains"]:
        if gain["b"] == "target_alone":
            assert (
                f"{100 * gain['difference']:+.1f} [{100 * gain['ci_low']:+.1f}, {100 * gain['ci_high']:+.1f}]" in text
            )
    effects = [effect for effect in record["effects"] if effect["status"] == "estimated"]
    assert effects
    for effect in effects:
        assert f"{100 * effect['estimate']:+.1f} [{100 * effect['low']:+.1f}, {100 * effect['high']:+.1f}]" in text
        assert f"{effect['n10']} : {effect['n01']}" in text
    assert "items won : lost" in text, "in words, not in the symbols of the test"
    for sentence in record["answers"]:
        assert sentence in text
    gate = campaign.records.gate()
    assert gate is not None
    decision = gate["decisions"][-1]
    assert f"{100 * decision['accuracy']:.1f} % [{100 * decision['low']:.1f}, {100 * decision['high']:.1f}]" in text


def test_sections_curves_and_what_was_not_run(page: str) -> None:
    ids = re.findall(r'<section id="([^"]+)"', page)
    assert ids == [
        "variants", "effects", "soft-tokens", "controls", "curves", "claims", "not-run", "answers", "provenance",
    ]  # fmt: skip
    assert page.count('class="panel"') == 14, "validation and loss of seven variants"
    text = words_of(page)
    assert "failed: CUDA out of memory" in text
    assert "embedded:source" in text
    assert "3.1 G" in text, "FLOPs where they were recorded"


def test_what_a_model_wrote_is_text(page: str) -> None:
    assert "window.hostile" in page, "the error of the trial that failed"
    assert "<script>window" not in page
    assert "<img" not in page
    assert "\x1b" not in page
    assert "{{data}}" in page, "text that looks like a place of the template stays text"
    assert HOSTILE in blocks_of(page)["index"]["items"][0]["question"], "compressed as it is; the page shows it as text"


def test_every_answer_is_in_the_page_and_equal_texts_once(campaign: Campaign, page: str) -> None:
    blocks = blocks_of(page)
    index = blocks.pop("index")
    trials = [name for name in campaign.plan.trials if campaign.trial(name).finished]
    assert len(index["trials"]) == len(blocks) == len(trials)
    rows = files.read_jsonl(campaign.trial(trials[0]).samples_file)
    by_id = {row["id"]: row for row in rows}
    for position, item in enumerate(index["items"]):
        row = by_id[item["id"]]
        assert blocks["block-0"]["bridged"]["outputs"][position] == row["bridged_output"]
        verdict = index["trials"][0]["verdicts"]["bridged"][position]
        assert verdict == ("1" if row["bridged_correct"] else "0" if row["bridged_valid"] else "-")
    assert blocks["block-3"]["target_alone"] == 0, "as in the first trial"


def test_answers_beyond_the_limit_lie_beside_the_page(campaign: Campaign) -> None:
    path = write_card(campaign.folder, inline_limit=60_000)
    try:
        page = path.read_text(encoding="utf-8")
        blocks = blocks_of(page)
        index = blocks.pop("index")
        beside = [trial["file"] for trial in index["trials"] if "file" in trial]
        assert 0 < len(blocks) < len(index["trials"])
        assert sorted(file.name for file in (path.parent / "card_answers").iterdir()) == sorted(beside)
        assert f"{len(beside)} of {len(index['trials'])} trials lie in files beside this page" in words_of(page)
        first = (path.parent / "card_answers" / beside[0]).read_text(encoding="utf-8")
        assert unpacked(first.split('"')[1])["bridged"]["outputs"]
    finally:
        write_card(campaign.folder)
    assert not list((path.parent / "card_answers").iterdir()), "files of an earlier page are gone"


def test_a_campaign_without_results_has_a_card_too(tmp_path: Path) -> None:
    campaign = planned(tmp_path, "begun", (0,))
    campaign.freeze()
    campaign._record_start([], {})
    text = words_of(write_card(campaign.folder).read_text(encoding="utf-8"))
    assert "No result yet" in text
    assert "not started" in text
    for name in campaign.plan.first:
        campaign.records.begin(campaign.plan.trials[name], campaign.run_spec).write_error(
            {"error": "training diverged at step 2: lower learning_rate", "traceback": "", "attempt": 1}
        )
    text = words_of(write_card(campaign.folder).read_text(encoding="utf-8"))
    assert "No result: 1 trial failed. training diverged at step 2: lower learning_rate" in text, "why, at once"
    with pytest.raises(UserError, match="is no campaign"):
        write_card(tmp_path / "none")


def test_text_is_escaped_wherever_it_stands() -> None:
    made = tag("p", '<b title="x">', tag("i", "a & b"), title='"><script>')
    assert made == '<p title="&quot;&gt;&lt;script&gt;">&lt;b title=&quot;x&quot;&gt;<i>a &amp; b</i></p>'


@pytest.mark.parametrize(
    ("values", "low", "high"), [((0.62, 0.78), 0.6, 0.8), ((-0.03, 0.21), -0.05, 0.25), ((0.5, 0.5), 0.5, 0.51)]
)
def test_a_scale_ends_at_ticks_that_hold_all_values(values: tuple[float, ...], low: float, high: float) -> None:
    scale = Scale.over(values)
    assert (scale.low, scale.high) == pytest.approx((low, high))
    assert scale.place(scale.low) == 0
    assert scale.ticks()[-1] == pytest.approx(high)
