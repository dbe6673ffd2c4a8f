"""What MLflow shows of a campaign beside numbers: descriptions of its phases' runs, and its pages as HTML artifacts.

MLflow shows an HTML artifact in a frame that can fetch nothing beside it, so pictures are part of the page.
"""

import base64
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge_common import files, trial_files
from bridge_common.errors import UserError
from cluster.monitoring.summary import gate_lines
from cluster.monitoring.toggle_effects import APPENDIX
from cluster.monitoring.tracking import tracking_uri_of
from mlflow_utils.pages import run_url
from mlflow_utils.tracker import Tracker
from tune_spaces.analysis.overview import overview
from tune_spaces.analysis.verdicts import points
from tune_spaces.appendix.from_campaign import analyse_campaign
from tune_spaces.campaign import Campaign

GATE_PAGE = "gate.html"
APPENDIX_PAGE = f"{APPENDIX}/appendix.html"
CARD_ANSWERS = "card_answers"
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: #1b1f24; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }}
td, th {{ border-bottom: 1px solid #d0d7de; padding: 0.25em 0.75em; text-align: left; }}
img {{ max-width: 100%; }} code, pre {{ background: #f3f4f6; overflow-x: auto; }}
</style>
{body}</html>
"""


@contextmanager
def attached(campaign: Campaign, tracker: Tracker, wanted: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Attach the campaign's pages to its run in MLflow after the body has run it, also if it failed or was stopped.

    If a page cannot be written, a warning is printed: no page is worth a run that has ended well.

    Args:
        campaign: the campaign.
        tracker: its record in MLflow.
        wanted: asked at the end; with False nothing is attached, as where seconds are left to end in.
    """
    try:
        yield
    finally:
        try:
            if wanted():
                _attach(campaign, tracker)
        except Exception as error:  # a page about the run must not change how the run ends
            print(f"warning: no pages of {campaign.name} in MLflow: {error}")


def _attach(campaign: Campaign, tracker: Tracker) -> None:
    phase, folder = campaign.phase.name, campaign.folder
    files.write_text(folder / GATE_PAGE, page(f"Gate of {campaign.name}", gate_markdown(campaign)))
    appendix = folder / APPENDIX / "appendix.md"
    if appendix.is_file():
        text = appendix.read_text(encoding="utf-8")
        files.write_text(folder / APPENDIX_PAGE, page(f"Appendix of {campaign.name}", text, appendix.parent))
    attached = [trial_files.CARD, CARD_ANSWERS, GATE_PAGE, APPENDIX]
    for path in (folder / name for name in attached):
        if path.exists():
            tracker.artifact(phase, path)
    tracker.describe(phase, description(campaign))


def gate_markdown(campaign: Campaign) -> str:
    """Return what the gate decided and what ran because of it, in Markdown."""
    policy = campaign.policy()
    lines = [f"# Gate of {campaign.name}", f"Goal: {campaign.phase.goal}."]
    decided = gate_lines(policy)
    lines += [f"- {line.removeprefix('gate: ')}" for line in decided] or ["This phase has no gate."]
    if policy.branches:
        wanted = policy.wanted()
        ran = [name for name in wanted if name in policy.outcomes]
        left = [name for name in campaign.plan.trials if name not in wanted]
        lines.append(f"Ran: {', '.join(ran) or 'nothing yet'}.")
        lines += [f"Not needed by this decision: {', '.join(left)}."] if left else []
    return "\n\n".join(lines)


def description(campaign: Campaign) -> str:
    """Return the description of the phase's run: goal, gate, a row a variant, and where its pages are; in Markdown."""
    phase, folder = campaign.phase, campaign.folder
    lines = [f"Goal: {phase.goal}.", *(f"**{line}**" for line in gate_lines(campaign.policy()))]
    if table := _variants(campaign):
        lines.append(table)
    shown = []
    for name, path in {"card": trial_files.CARD, "gate": GATE_PAGE, "appendix": APPENDIX_PAGE}.items():
        if (folder / path).is_file():
            address = run_url(folder, tracking_uri_of(campaign), phase.name, path)
            shown.append(f"[{name}]({address})" if address else f"{name}: {path}")
    return "\n\n".join([*lines, f"Among the artifacts: {', '.join(shown)}."])


def _variants(campaign: Campaign) -> str:
    try:
        appendix = analyse_campaign(campaign.records).appendix
    except UserError:  # nothing has samples yet
        return ""
    reference = appendix.trials.reference
    lines = [f"| variant | bridged | gain | − {reference} | 95 % interval |", "|---|---|---|---|---|"]
    for row in overview(appendix):
        gain = "" if row.gain is None else points(row.gain.estimate)
        own = row.difference
        cells = ["", ""] if own is None else [points(own.estimate), f"{points(own.low)} to {points(own.high)}"]
        lines.append(f"| {' | '.join([row.variant, f'{row.accuracy:.1%}', gain, *cells])} |")
    return "\n".join(lines)


def page(title: str, markdown: str, pictures: Path | None = None) -> str:
    """Return Markdown as one HTML page; the pictures that it shows are read from a folder and become part of it."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    if pictures is not None:
        body = re.sub(r'src="([^":/]+\.(png|svg))"', lambda match: _inline(pictures / match[1], match), body)
    return PAGE.format(title=title, body=body)


def _inline(path: Path, match: re.Match[str]) -> str:
    if not path.is_file():
        return match[0]
    media_type = "image/png" if match[2] == "png" else "image/svg+xml"
    return f'src="data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"'
