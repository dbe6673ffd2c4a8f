"""Commands that read what is recorded: the appendix, the reports, MLflow's pages, and a look into one trial."""

from pathlib import Path

import click

from bridge_common.errors import UserError
from cluster.cli.checks import FOLDER, KNOWN_FOLDER, PORT, TEXT, URI, WEB, require_meaning, require_writable
from cluster.cli.options import name_option, storage_option
from cluster.default_paths import default_reports


@click.command()
@click.option("--samples", multiple=True, metavar="NAME=FILE", help="compare these samples.jsonl, not a campaign")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object; with --samples")
@click.option("--out", type=FOLDER, help="folder to write into  [default: appendix in the campaign's folder]")
@storage_option
@name_option
def appendix(samples: tuple[str, ...], as_json: bool, out: Path | None, storage: Path, name: str | None) -> None:
    """Write the attribution appendix of a campaign, or compare sample files with one another."""
    for option in ("--storage", "--name"):
        require_meaning(option, not samples, "without --samples, which are files of their own")
    if samples:
        from cluster.cli.compare_files import appendix_from_files, parse_samples

        print(appendix_from_files(parse_samples(samples), as_json, out))
        return
    if as_json:
        raise UserError("--json goes with --samples NAME=FILE; of a campaign, appendix.json is written as JSON anyway")
    from tune_spaces.appendix.from_campaign import campaign_appendix
    from tune_spaces.records.campaigns import choose

    folder = storage.expanduser() / choose(storage, name)
    require_writable(out or folder, "--out")
    for path in campaign_appendix(folder, out).values():
        print(path)


@click.command()
@click.argument("campaign", required=False)
@click.option("--out", type=FOLDER, help="folder to write into  [default: the campaign's]")
@storage_option
def card(campaign: str | None, out: Path | None, storage: Path) -> None:
    """Write card.html of a campaign: verdict, tables, plots and every answer in one page. By default the last one."""
    from tune_spaces.card.write import write_card
    from tune_spaces.records.campaigns import choose

    folder = storage.expanduser() / choose(storage, campaign)
    require_writable(out or folder, "--out")
    print(write_card(folder, out))


@click.command()
@storage_option
@name_option
@click.option("--out", type=FOLDER, default=default_reports(), help="folder of the reports")
def report(storage: Path, name: str | None, out: Path) -> None:
    """Update CODEX_REPORT.md, LOG.md and EXPERIMENTS_SUMMARY.md, and send to MLflow what it still lacks."""
    from cluster.monitoring.tracking import tracking_uri_of
    from mlflow_utils.reports import markdown
    from mlflow_utils.tracker import Tracker
    from tune_spaces.campaign import Campaign
    from tune_spaces.records.campaigns import choose

    require_writable(out, "--out")
    campaign = Campaign.load(storage, choose(storage, name))
    changed = markdown.update(campaign.folder, out)
    print("\n".join(map(str, changed)) or "the reports are up to date")
    if unsent := Tracker.replay(tracking_uri_of(campaign), campaign.name, campaign.folder):
        print(f"warning: {unsent}")


@click.command()
@storage_option
@click.option("--tracking-uri", type=URI, help="database to serve  [default: SQLite in the storage]")
@click.option("--artifacts", type=URI, help="folder, or s3://BUCKET/PATH  [default: mlartifacts in the storage]")
@click.option("--host", type=TEXT, default="127.0.0.1", help="address to listen on")
@click.option("--port", type=PORT, default=5000, help="port to listen on")
@click.option("--allowed-hosts", type=URI, help="names under which other machines may reach it, with commas")
def ui(
    storage: Path, tracking_uri: str | None, artifacts: str | None, host: str, port: int, allowed_hosts: str | None
) -> int:
    """Serve MLflow's pages over a storage."""
    from cluster.serving.settings import is_loopback
    from mlflow_utils.server import serve
    from mlflow_utils.tracking_uri import DATABASE, check, default_tracking_uri

    storage = storage.expanduser()
    if tracking_uri is None and not (storage / DATABASE).is_file():
        raise UserError(f"no campaign was recorded in {storage}: name another --storage, or a --tracking-uri")
    uri = tracking_uri or default_tracking_uri(storage)
    check(uri)
    if not uri.startswith("http") and not is_loopback(host):
        click.echo(f"warning: on --host {host} everyone who reaches this machine can read and change all records")
    return serve(
        *(uri, storage), artifacts=artifacts, host=host, port=port, allowed_hosts=allowed_hosts, echo=click.echo
    )


@click.command()
@storage_option
@name_option
@click.option("--phase", help="compare the trials of this phase only  [default: those of all phases]")
@click.option("--base", type=WEB, metavar="URL", help="address of the MLflow server")
def compare(storage: Path, name: str | None, phase: str | None, base: str | None) -> None:
    """Print the addresses of MLflow's pages that compare a campaign's trials: charts by settings, and side by side."""
    from cluster.monitoring.tracking import tracking_uri_of
    from mlflow_utils.pages import campaign_url, phase_url
    from tune_spaces.campaign import Campaign
    from tune_spaces.records.campaigns import choose

    campaign = Campaign.load(storage, choose(storage, name))
    uri = tracking_uri_of(campaign)
    side_by_side = phase_url(campaign.folder, uri, phase, base)
    if phase is None and (charts := campaign_url(campaign.folder, uri, base, charts=True)):
        print(charts)
    print(side_by_side)


@click.command()
@click.argument("trial", type=KNOWN_FOLDER)
@click.option("--count", type=click.IntRange(min=1), default=4, help="test examples to show")
@click.option("--device", default="cpu", help="cpu, or cuda")
def diagnose(trial: Path, count: int, device: str) -> None:
    """Show what soft tokens do in examples of a finished trial, given its folder STORAGE/CAMPAIGN/trials/NAME."""
    from ray_bridge.evaluation.diagnose import diagnose as examine
    from ray_bridge.evaluation.diagnose import render
    from ray_bridge.inference.checks import device_of

    print(render(examine(trial, count=count, device=device_of(device))))


COMMANDS = (card, appendix, report, ui, compare, diagnose)
