"""Update the written reports of a running campaign whenever one of its trials has ended."""

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

    If a report cannot be written, a warning is printed: its numbers are on disk, and `report` writes it later.
    """
    reported_trials: set[str] = set()

    def update() -> None:
        done = {name for name in campaign.plan.trials if campaign.trial(name).status is not None}
        if done - reported_trials:
            reported_trials.update(done)
            _write(campaign, out)

    try:
        with repeating(POLL, update, "reports"):
            yield
    finally:
        _write(campaign, out)


def _write(campaign: Campaign, out: Path) -> None:
    from mlflow_utils.reports import markdown

    try:
        markdown.update(campaign.folder, out)
    except (OSError, UserError) as error:
        print(f"warning: the reports in {out} were not updated: {error}")
