"""Running a phase from the command line: progress and tracking around a campaign, and its exit code."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cluster.cli.data import check_campaign_data
from cluster.cli.options import PhaseRequest
from cluster.cli.request import make_campaign
from cluster.default_paths import default_reports
from cluster.monitoring.tracking import recorded, tracking_uri_of
from mlflow_utils.tracking_uri import check
from tune_spaces.campaign import Campaign
from tune_spaces.ray_tune.connect import cluster_address
from tune_spaces.ray_tune.nodes import check_local

DONE, FAILED = 0, 1
SEND_FOR = 60.0


def run_phase(phase: str, request: PhaseRequest) -> int:
    """Run a phase to its end; returns the exit code."""
    return carry_out(make_campaign(phase, request), force=request.force, job=request.job, reports=request.reports)


def resume_campaign(storage: Path, name: str | None, *, force: bool = False, job: str | None = None) -> int:
    """Go on with a campaign as it was asked for; returns the exit code."""
    from tune_spaces.records.campaigns import choose

    return carry_out(Campaign.load(storage, choose(storage, name)), force=force, job=job)


def carry_out(campaign: Campaign, *, force: bool = False, job: str | None = None, reports: Path | None = None) -> int:
    """Run a campaign, show it, record it, keep its reports, and sum it up."""
    from cluster.monitoring.summary import print_summary
    from cluster.monitoring.toggle_effects import print_effects

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    campaign.storage.mkdir(parents=True, exist_ok=True)
    check(tracking_uri_of(campaign))
    if cluster_address() is None:
        check_local(campaign.run_spec)
    check_campaign_data(campaign, need_commits=job is None and not force)
    policy = campaign.run(job, force=force, watch=partial(_watched, reports or default_reports()))
    print_summary(campaign, policy)
    print_effects(campaign)
    failed = not policy.finished or any(outcome.failed for outcome in policy.outcomes.values())
    return FAILED if failed else DONE


@contextmanager
def _watched(reports: Path, campaign: Campaign) -> Iterator[None]:
    from cluster.monitoring.progress import Progress
    from cluster.monitoring.reports import reported
    from cluster.monitoring.toggle_effects import write_attribution

    with recorded(campaign, tracking_uri_of(campaign), SEND_FOR) as tracker:
        with reported(campaign, reports), Progress(campaign):
            yield
        if folder := write_attribution(campaign):
            tracker.artifact(campaign.phase.name, folder)
