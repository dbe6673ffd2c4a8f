"""Write a campaign's card: `card.html` in its folder, one file that needs no network."""

from importlib.resources import files as resources
from pathlib import Path

from bridge_common import trial_files
from bridge_common.errors import UserError
from bridge_common.files import write_text
from tune_spaces.appendix.from_campaign import Analysed, analyse_campaign
from tune_spaces.card import results, status
from tune_spaces.card.answers import INLINE_LIMIT, PackedAnswers, pack_answers
from tune_spaces.card.html import Html, escape, join, tag
from tune_spaces.records.campaign_folder import CampaignFolder


def write_card(campaign: Path, out: Path | None = None, *, inline_limit: int = INLINE_LIMIT) -> Path:
    """Write the card of a campaign from its folder alone, and return its path.

    Args:
        campaign: STORAGE/CAMPAIGN.
        out: folder to write into; the campaign's by default.
        inline_limit: characters of compressed answers that the page may hold; the rest goes to files beside it.

    Raises:
        UserError: nothing was planned or run in this folder.
    """
    folder = CampaignFolder(Path(campaign))
    if folder.campaign() is None and folder.gate() is None:
        raise UserError(f"{folder.path} is no campaign: give the name of one in the storage")
    try:
        analysed = analyse_campaign(folder)
    except UserError as error:  # no trial has finished: the card says how far the campaign came
        analysed, problem = None, str(error)
    else:
        problem = ""
    packed = None if analysed is None else pack_answers(analysed.appendix.trials, inline_limit)
    if packed is not None:
        packed.write_files(out or folder.path)
    path = (out or folder.path) / trial_files.CARD
    write_text(path, _page(folder, analysed, packed, problem))
    return path


def _page(folder: CampaignFolder, analysed: Analysed | None, packed: PackedAnswers | None, problem: str) -> str:
    sections = [status.opening(folder, analysed, problem)]
    if analysed is not None:
        sections += results.sections(analysed)
    sections.append(status.not_run(folder, analysed))
    if packed is not None:
        sections.append(_browser(packed))
    sections.append(status.provenance(folder, analysed))
    own = resources("tune_spaces.card")
    values = {
        "title": escape(folder.path.resolve().name),
        "style": own.joinpath("page.css").read_text(encoding="utf-8"),
        "sections": join(sections),
        "data": Html("") if packed is None else _data(packed),
        "script": own.joinpath("page.js").read_text(encoding="utf-8"),
    }
    page = own.joinpath("page.html").read_text(encoding="utf-8")
    head, *rest = page.split("{{")  # one pass: a value that contains {{title}} stays as it is
    return head + "".join(values[name] + text for name, _, text in (part.partition("}}") for part in rest))


def _data(packed: PackedAnswers) -> Html:
    """Return the compressed blocks as data elements, which a browser neither runs nor shows."""
    blocks = {"index": packed.index, **{f"block-{number}": text for number, text in packed.blocks.items()}}
    return join(Html(f'<script type="application/gzip" id="{name}">{text}</script>\n') for name, text in blocks.items())


def _browser(packed: PackedAnswers) -> Html:
    beside = ""
    if packed.files:
        beside = (
            f" The texts of {len(packed.files)} of {packed.trials} trials lie in files beside this page, in the folder "
            "card_answers; keep them together."
        )
    intro = f"{packed.items:,} items, {packed.trials} trials, every condition.{beside}"
    template = resources("tune_spaces.card").joinpath("browser.html").read_text(encoding="utf-8")
    return tag(
        "section",
        tag("h2", "Answers"),
        tag("p", intro, class_="note"),
        tag("p", "The answers can be browsed on a screen, with scripts on.", class_="print-only note"),
        Html(template),
        id="answers",
    )
