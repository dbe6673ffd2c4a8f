"""Write the appendix at the end of a phase, and print the estimated effects of its toggles."""

from pathlib import Path
from typing import Any

from cluster.monitoring.text import WIDTH, wrapped
from tune_spaces.campaign import Campaign

APPENDIX = "appendix"
TABLE = "effects.parquet"
FEWEST = 2  # variants, so that there is a difference


def write_attribution(campaign: Campaign) -> Path | None:
    """Write the appendix into the campaign's folder and return it; None with fewer than two finished variants.

    Raises:
        UserError: if a plug-in of the campaign cannot be imported.
    """
    finished = {
        trial.variant
        for name, trial in campaign.plan.trials.items()
        if campaign.trial(name).finished and campaign.trial(name).samples
    }
    if len(finished) < FEWEST:
        return None
    from tune_spaces.appendix.from_campaign import campaign_appendix

    folder = campaign.folder / APPENDIX
    campaign_appendix(campaign.folder, folder)
    return folder


def print_effects(campaign: Campaign, console: Any = None, *, verbose: bool = False) -> None:
    """Print where the appendix lies, and if verbose the effects of toggles with intervals and the noise floor."""
    path = campaign.folder / APPENDIX / TABLE
    if not path.is_file():
        return
    import pandas as pd
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from tune_spaces.analysis.verdicts import points

    frame = pd.read_parquet(path)
    console = console or Console(width=None if Console().is_terminal else WIDTH, highlight=False)
    table = Table(title="Effects of toggles on bridged accuracy, in points", title_justify="left", box=SIMPLE_HEAD)
    table.show_edge, table.pad_edge, table.padding = False, False, (0, 1, 0, 0)
    table.add_column("effect", overflow="fold")
    table.add_column("kind")
    for heading in ("points", "95 % interval", "p adj.", "floor", "shown"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in frame[frame["status"] == "estimated"].to_dict("records"):
        floor, p = row["noise_floor"], row["p_adjusted"]
        table.add_row(
            f"{row['toggles']}, given {row['given']}" if row["given"] else row["toggles"],
            row["kind"],
            points(row["estimate"]),
            f"\\[{points(row['low'])}, {points(row['high'])}]",
            "" if pd.isna(p) else f"{p:.3g}",
            "" if pd.isna(floor) else f"{100 * floor:.1f}",
            "yes" if row["shown"] else "no",
        )
    if verbose and table.row_count:
        console.print(table)
    line = f"attribution: {path.parent} (appendix.md, {TABLE}: {len(frame)} effects)"
    console.print(wrapped(line), markup=False, soft_wrap=True)
