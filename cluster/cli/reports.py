"""Commands that read what is recorded: the appendix, the reports, MLflow's pages, and a look into one run."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.options import REPORTS, STORAGE, Name, Storage


def appendix(
    samples: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="a samples.jsonl, instead of a campaign")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object, with --samples")] = False,
    out: Annotated[Path | None, typer.Option(help="folder to write into")] = None,
    storage: Storage = STORAGE,
    name: Name = None,
) -> None:
    """Write the attribution appendix of a campaign, or compare sample files with one another."""
    if samples:
        from cluster.cli.compare_files import appendix_from_files, parse_samples

        print(appendix_from_files(parse_samples(samples), as_json, out))
        return
    from tune_spaces.appendix.from_campaign import campaign_appendix
    from tune_spaces.records.campaigns import choose

    for path in campaign_appendix(storage.expanduser() / choose(storage, name), out).values():
        print(path)


def report(
    storage: Storage = STORAGE,
    name: Name = None,
    out: Annotated[Path, typer.Option(help="folder of the reports")] = REPORTS,
) -> None:
    """Bring CODEX_REPORT.md, LOG.md and EXPERIMENTS_SUMMARY.md up to date, and send what MLflow still lacks."""
    from mlflow_utils.reports import markdown as reports
    from mlflow_utils.tracker import Tracker
    from tune_spaces.campaign import Campaign
    from tune_spaces.records.campaigns import choose

    campaign = Campaign.load(storage, choose(storage, name))
    changed = reports.update(campaign.folder, out)
    for path in changed:
        print(path)
    if not changed:
        print("the reports are up to date")
    unsent = Tracker.replay(campaign.request["tracking_uri"], campaign.name, campaign.folder)
    if unsent:
        print(f"warning: {unsent}")


def ui(
    storage: Storage = STORAGE,
    tracking_uri: Annotated[str | None, typer.Option("--tracking-uri", help="SQLite in the storage by default")] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on")] = 5000,
    allowed_hosts: Annotated[str | None, typer.Option(help="names under which others may reach it")] = None,
) -> None:
    """Serve MLflow's pages over a storage."""
    from mlflow_utils.server import serve
    from mlflow_utils.tracking_uri import default_tracking_uri

    storage = storage.expanduser()
    uri = tracking_uri or default_tracking_uri(storage)
    raise typer.Exit(serve(uri, storage, host=host, port=port, allowed_hosts=allowed_hosts))


def compare(
    storage: Storage = STORAGE,
    name: Name = None,
    phase: Annotated[str | None, typer.Option(help="phase of the campaign; its first by default")] = None,
    base: Annotated[str | None, typer.Option(help="address of the MLflow server")] = None,
) -> None:
    """Print the address of MLflow's page that sets a phase's trials side by side."""
    from mlflow_utils.server import phase_url
    from tune_spaces.campaign import Campaign
    from tune_spaces.records.campaigns import choose

    campaign = Campaign.load(storage, choose(storage, name))
    print(phase_url(campaign.folder, campaign.request["tracking_uri"], phase or campaign.phase.name, base))


def diagnose(
    run: Annotated[Path, typer.Argument(help="a trial's folder, STORAGE/CAMPAIGN/trials/VARIANT-ID")],
    count: Annotated[int, typer.Option(min=1, help="test examples to look at")] = 4,
    device: Annotated[str, typer.Option(help="cpu, or cuda")] = "cpu",
) -> None:
    """Look into a finished run: its soft tokens, what the target makes of them, and all conditions' texts."""
    from ray_bridge.evaluation.diagnose import diagnose as look
    from ray_bridge.evaluation.diagnose import render

    print(render(look(run, count=count, device=device)))


COMMANDS = (appendix, report, ui, compare, diagnose)
