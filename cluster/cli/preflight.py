"""The command that checks a cluster before a phase runs on it."""

import json
from dataclasses import asdict

import click

from cluster.cli.options import OPTIONS, PhaseRequest, any_phase_options, json_option, profile_option
from cluster.cli.phases import PhaseCommand


@click.command(cls=PhaseCommand)
@click.argument("phase", metavar=f"[{'|'.join(OPTIONS)}]", default="phase1")
@profile_option
@json_option
@any_phase_options
def preflight(request: PhaseRequest, phase: str, profile: str | None, as_json: bool) -> int:
    """Check everything that a phase needs, on every node that may be used, before any GPU-hour is spent."""
    from cluster.cli.request import make_campaign
    from cluster.launchers.site import load_site
    from cluster.preflight.requirements import Requirements
    from cluster.preflight.run import preflight as run_checks
    from cluster.preflight.run import print_checks
    from cluster.preflight.settings import PreflightSettings

    campaign = make_campaign(phase, request)
    settings = PreflightSettings.for_run(
        campaign.base,
        campaign.run_spec,
        modules=load_site(profile).modules,
        storage=campaign.storage,
        tracking_uri=request.tracking_uri,
        requirements=Requirements(trials=campaign.specs(), run=campaign.run_spec),
    )
    checks = run_checks(settings)
    if as_json:
        print(json.dumps([asdict(check) for check in checks]))
    else:
        print_checks(checks)
    return int(any(check.status == "fail" for check in checks))


COMMANDS = (preflight,)
