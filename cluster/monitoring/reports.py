"""Update the written reports of a running campaign whenever one of its trials has ended, and its card at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge_common.errors import UserError
from bridge_common.threads import repeating
from tune_spaces.campaign import Campaign

POLL = 2.0


@contextmanager
def reported(campaign: Campaign, out: Path) -> Iterator[None]:
    """Keep CODEX_REPORT.md, LOG.md and EXPERIMENTS_SUMMARY.md in `out` up to date while the body runs the campaign.

    If a report cannot be written, a warning is printed, once for each reason: its numbers are on disk, and `report`
    writes it later.
    """
    reported_trials: set[str] = set()
    warnings: set[str] = set()

    def update() -> None:
        done = {name for name in campaign.plan.trials if campaign.trial(name).status is not None}
        if done - reported_trials:
            reported_trials.update(done)
            _write(campaign, out, warnings)

    try:
        with repeating(POLL, update, "reports"):
            yield
    finally:
        _write(campaign, out, warnings)


@contextmanager
def carded(campaign: Campaign) -> Iterator[None]:
    """Write the campaign's card after the body has run it, also if it failed or was stopped.

    If the card cannot be written, a warning is printed: no page is worth a run that has ended well.
    """
    try:
        yield
    finally:
        from tune_spaces.card.write import write_card

        try:
            write_card(campaign.folder)
        except Exception as error:  # a page about the run must not change how the run ends
            print(f"warning: no card of {campaign.name}: {error}; `card {campaign.name}` writes it")


def _write(campaign: Campaign, out: Path, warnings: set[str]) -> None:
    from mlflow_utils.reports import markdown

    try:
        markdown.update(campaign.folder, out)
    except (OSError, UserError) as error:
        if str(error) not in warnings:
            print(f"warning: the reports in {out} were not updated: {error}")
        warnings.add(str(error))
