"""The table at a campaign's end: one row a variant, whole at 80 columns. Its numbers are those of the appendix."""

from typing import Any

from tune_spaces.analysis.overview import VariantSummary, overview
from tune_spaces.analysis.verdicts import points
from tune_spaces.appendix.from_campaign import Analysed, analyse_campaign
from tune_spaces.campaign import Campaign
from tune_spaces.design.toggles import Toggle, all_toggles

HEADINGS = ("variant", "toggles", "bridged", "gain", "− {reference}", "95 % interval", "min")


def final_table(campaign: Campaign) -> Any:
    """Return the table of a campaign whose trials have samples.

    Raises:
        UserError: no trial has.
    """
    from rich.table import Table

    analysed = analyse_campaign(campaign.records)
    reference = analysed.appendix.trials.reference
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in HEADINGS:
        text = heading in ("variant", "toggles")
        table.add_column(heading.format(reference=reference), justify="left" if text else "right", overflow="fold")
    toggles = [toggle for toggle in all_toggles() if toggle.field in analysed.toggles]
    minutes = _minutes(analysed)
    for row in overview(analysed.appendix):
        on = next(trial.on for trial in analysed.appendix.trials.compared if trial.variant == row.variant)
        table.add_row(*_row(row, reference, toggles_in_words(toggles, on)), minutes.get(row.variant, ""))
    return table


def _row(row: VariantSummary, reference: str, toggles: str) -> list[str]:
    name = row.variant if row.runs == 1 else f"{row.variant} ×{row.runs}"
    gain = "" if row.gain is None else points(row.gain.estimate)
    cells = [name, toggles, f"{row.accuracy:.1%}", gain]
    if row.difference is None:
        return [*cells, "" if row.variant == reference else "not compared", ""]
    own = row.difference
    shown = f"{points(own.estimate)}{'*' if own.shown else ' '}"
    return [*cells, shown, f"\\[{points(own.low)}, {points(own.high)}]"]


def toggles_in_words(toggles: list[Toggle], on: frozenset[str]) -> str:
    """Return which toggles are on in as few words as possible: all, all but one, none, or the keys."""
    off = [toggle.key for toggle in toggles if toggle.field not in on]
    if not off:
        return "all on"
    if len(off) == len(toggles):
        return "all off"
    if len(off) == 1:
        return f"all but {off[0]}"
    return " + ".join(toggle.key for toggle in toggles if toggle.field in on)


def _minutes(analysed: Analysed) -> dict[str, str]:
    if "seconds" not in analysed.table:
        return {}
    means = analysed.table.dropna(subset=["seconds"]).groupby("variant")["seconds"].mean()
    return {str(name): f"{value / 60:.1f}" for name, value in means.items()}
