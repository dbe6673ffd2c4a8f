"""Run a phase from the command line: preflight, then the campaign with progress, tracking and reports."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from bridge_common.errors import UserError
from cluster.cli.checks import require_function, require_writable
from cluster.cli.data import check_campaign_data
from cluster.cli.options import PhaseRequest, StartRequest
from cluster.cli.request import make_campaign
from cluster.default_paths import default_reports
from cluster.monitoring.full_disk import full_disk, naming_full_disks, too_full_for_trials
from cluster.monitoring.tracking import recorded, tracking_uri_of
from cluster.program import command
from mlflow_utils.tracking_uri import check
from tune_spaces.campaign import Campaign
from tune_spaces.design.parallel import parse_parallel
from tune_spaces.gate.policy import Policy
from tune_spaces.ray_tune.connect import cluster_address, connected
from tune_spaces.ray_tune.interrupts import Interrupted, Interrupts, interruptible
from tune_spaces.ray_tune.nodes import check_local, require_ray_can_start
from tune_spaces.records.limits import Limits, parse_until

DONE, FAILED, REFUSED = 0, 1, 2
SEND_FOR_S = 60.0
SEND_FOR_STOPPED_S = 3.0  # what asked by a signal soon kills; `resume` and `report` send the rest


def run_phase(phase: str, request: PhaseRequest) -> int:
    """Run a phase to its end and return the exit code."""
    return run_campaign(
        make_campaign(phase, request),
        request,
        force=request.force,
        skip_preflight=request.skip_preflight,
        job=request.job,
        reports=request.reports,
    )


def resume_campaign(
    storage: Path,
    name: str | None,
    start: StartRequest,
    *,
    force: bool = False,
    skip_preflight: bool = False,
    job: str | None = None,
) -> int:
    """Continue a campaign with the settings that it was started with and return the exit code."""
    from tune_spaces.records.campaigns import choose

    campaign = Campaign.load(storage, choose(storage, name))
    return run_campaign(campaign, start, force=force, skip_preflight=skip_preflight, job=job)


def run_campaign(
    campaign: Campaign,
    start: StartRequest,
    *,
    force: bool = False,
    skip_preflight: bool = False,
    job: str | None = None,
    reports: Path | None = None,
) -> int:
    """Run a campaign, show and record it, keep its reports up to date, and print a summary.

    Args:
        campaign: what to run.
        start: trials at once, limits, and who is notified.
        force: start although a required phase has not passed; the record says so.
        skip_preflight: start without the checks of `quick_checks`; the record says so.
        job: MODULE:FUNCTION that replaces the translator job.
        reports: folder of the written reports.

    Returns:
        The exit code: 0; 1 if a trial failed or something is left to run; 2 if trials refused what was asked of them.

    Raises:
        UserError: if the campaign cannot start as asked.
        KeyboardInterrupt: if SIGTERM or SIGINT ended it; what was running goes on at the next start.
    """
    with interruptible(ends_process=True) as interrupts:
        try:
            return _run(campaign, start, interrupts, force, skip_preflight, job, reports)
        except KeyboardInterrupt:
            campaign.records.record_stop(str(interrupts.requested))
            raise


def _run(
    campaign: Campaign,
    start: StartRequest,
    interrupts: Interrupts,
    force: bool,
    skip_preflight: bool,
    job: str | None,
    reports: Path | None,
) -> int:
    from cluster.monitoring.notify import check_url
    from cluster.monitoring.summary import print_failures, print_summary
    from cluster.monitoring.toggle_effects import print_effects

    parallel, limits = parse_parallel(start.parallel), parse_limits(start, campaign)
    if job is not None:
        require_function("--job", job)
    campaign.check_search()
    if start.notify is not None:
        check_url(start.notify)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    require_writable(campaign.storage)
    if reports is not None:
        require_writable(reports, "--reports")
    _check_tracking(campaign)
    campaign.check_prerequisites(force)
    campaign.check_code(start.allow_changed_code)
    campaign.check_plan()
    disks = (campaign.storage, reports or default_reports(), Path(tempfile.gettempdir()))
    if not campaign.policy().finished:
        joins = cluster_address()
        print("starting Ray …" if joins is None else f"joining the Ray cluster at {joins} …", flush=True)
    with naming_full_disks(*disks), _ray_for(campaign):
        check_campaign_data(campaign, need_commits=job is None and not force)
        earlier = (campaign.records.campaign() or {}).get("request", {}).get("preflight", [])
        campaign.request["preflight"] = list(earlier)  # one line a start that had something to run
        if not campaign.policy().finished:
            campaign.request["preflight"].append("skipped" if skip_preflight else _preflight(campaign, job))
        interrupts.describe = partial(_to_resume, campaign)
        watch = partial(_watched, interrupts, reports or default_reports(), start.notify)
        policy = campaign.run(
            job,
            force=force,
            parallel=parallel,
            limits=limits,
            watch=watch,
            allow_changed_code=start.allow_changed_code,
        )
    if interrupts.requested:
        raise Interrupted(interrupts.requested)
    print_summary(campaign, policy, verbose=start.verbose)
    print_effects(campaign, verbose=start.verbose)
    print_failures(campaign, policy)
    code = _exit_code(campaign, policy)
    failed = [(campaign.trial(name).error() or {}).get("error", "") for name in policy.outcomes]
    if code != DONE and (line := full_disk(disks) or too_full_for_trials(campaign.storage, failed)):
        print(f"error: {line}", file=sys.stderr)
    return code


def _exit_code(campaign: Campaign, policy: Policy) -> int:
    """Return `REFUSED` if trials failed only because they refused what was asked of them."""
    failed = [name for name, outcome in policy.outcomes.items() if outcome.failed]
    if failed and all((campaign.trial(name).error() or {}).get("refused") for name in failed):
        return REFUSED
    return FAILED if failed or not policy.finished else DONE


def _check_tracking(campaign: Campaign) -> None:
    """Refuse a new campaign whose MLflow store cannot be reached; one that was started before goes on without it."""
    try:
        check(tracking_uri_of(campaign))
    except UserError as error:
        if not campaign.records.campaign_file.is_file():
            raise
        print(f"note: tracking: {error}. Points are kept in {campaign.folder} and sent once it answers")


def parse_limits(start: StartRequest, campaign: Campaign) -> Limits:
    """Return the limits that options name.

    Raises:
        UserError: for a time that cannot be read or has passed, or GPU-hours of a run without GPUs.
    """
    until = None if start.until is None else parse_until(start.until)
    limits = Limits(gpu_hours=start.max_gpu_hours, until=until)
    limits.check(campaign.run_spec)
    return limits


@contextmanager
def _ray_for(campaign: Campaign) -> Iterator[None]:
    """Join the cluster that the environment names, if anything is left to run; a local Ray starts when it is needed."""
    if campaign.policy().finished:
        yield
    elif cluster_address() is None:
        require_ray_can_start()
        check_local(campaign.run_spec)
        yield
    else:
        with connected(campaign.run_spec):
            yield


def _preflight(campaign: Campaign, job: str | None) -> str:
    """Run the quick checks, print their warnings, and return a line for the record.

    Raises:
        UserError: in one line, every failed check with its remedy.
    """
    from cluster.preflight.check import require
    from cluster.preflight.quick import quick_checks
    from cluster.preflight.requirements import Requirements
    from cluster.preflight.settings import PreflightSettings

    policy = campaign.policy()
    wanted = {n: spec for n, spec in campaign.specs().items() if n in policy.wanted() or n not in campaign.plan.trials}
    specs = [campaign.base, *wanted.values()]
    settings = PreflightSettings.for_run(
        campaign.base,
        campaign.run_spec,
        storage=campaign.storage,
        tracking_uri=None if campaign.records.campaign_file.is_file() else tracking_uri_of(campaign),
        models=tuple(model for spec in specs for model in (spec.source, spec.target)),
        min_free_gb=2,
        requirements=Requirements(trials=wanted, run=campaign.run_spec),
    )
    if job is not None:  # another job, which need not read models and data
        settings = replace(settings, models=(), task_data=None, dataset=None, requirements=None)
    checks = quick_checks(settings)
    require(checks)
    warnings = [c for c in checks if c.status == "warn"]
    for warning in warnings:
        node = f" on {warning.node}" if warning.node else ""
        print(f"note: {warning.name}{node}: {warning.detail} ({warning.remedy})")
    return "passed" if not warnings else "warnings: " + "; ".join(f"{c.name}: {c.detail}" for c in warnings)


def _to_resume(campaign: Campaign) -> str:
    """Return what is left to run and the command for it, in one line; nothing if the campaign never started."""
    if not campaign.records.campaign_file.is_file():
        return "before anything ran"
    policy = campaign.policy()
    missing = [name for name in policy.wanted() if name not in policy.outcomes]
    left = f"not finished: {', '.join(missing)}; " if missing else ""
    resume = command("resume", "--storage", campaign.storage, "--name", campaign.name)
    return f"({left}to resume: {resume})"


@contextmanager
def _watched(interrupts: Interrupts, reports: Path, notify: str | None, campaign: Campaign) -> Iterator[None]:
    from cluster.monitoring.notify import notified
    from cluster.monitoring.progress import Progress
    from cluster.monitoring.reports import carded, reported
    from cluster.monitoring.run_pages import attached
    from cluster.monitoring.toggle_effects import write_attribution

    def send_for() -> float:
        return SEND_FOR_STOPPED_S if interrupts.requested or interrupts.noticed else SEND_FOR_S

    with recorded(campaign, tracking_uri_of(campaign), send_for) as tracker:
        notices = nullcontext() if notify is None else notified(campaign, notify)
        with attached(campaign, tracker, lambda: not interrupts.requested):
            with carded(campaign), reported(campaign, reports), notices, Progress(campaign):
                yield
            write_attribution(campaign)
