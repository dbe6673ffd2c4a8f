"""Commands on campaigns that exist: resume, status, stop, results; and the archive of old logs."""

import sys
import time
from pathlib import Path

import click

from bridge_common.errors import UserError
from cluster.cli.checks import FILE, FOLDER, NEW_FILE, SECONDS, URI, NumberType, require_meaning, require_writable
from cluster.cli.ending import or_stopped
from cluster.cli.options import (
    StartRequest,
    force_option,
    job_option,
    json_option,
    name_option,
    skip_preflight_option,
    start_options,
    storage_option,
)
from cluster.program import command
from tune_spaces.campaign import Campaign
from tune_spaces.records.campaign_folder import CampaignFolder
from tune_spaces.records.campaigns import choose

POLL_S = 0.5


@click.command()
@storage_option
@name_option
@start_options
@force_option
@skip_preflight_option
@job_option
def resume(
    storage: Path, name: str | None, start: StartRequest, force: bool, skip_preflight: bool, job: str | None
) -> int:
    """Continue a campaign with the settings that it was started with. Finished trials are not run again."""

    def run() -> int:
        from cluster.cli.run import resume_campaign

        return resume_campaign(storage, name, start, force=force, skip_preflight=skip_preflight, job=job)

    return or_stopped(run)


@click.command()
@storage_option
@name_option
@click.option("--watch", is_flag=True, help="follow one campaign until it ends: state, node, step, accuracy, time left")
@click.option("--every", type=SECONDS, default=2.0, help="seconds between looks; with --watch")
@click.option("--tracking-uri", type=URI, help="MLflow server to read instead of the storage; with --watch")
@json_option
def status(storage: Path, name: str | None, watch: bool, every: float, tracking_uri: str | None, as_json: bool) -> None:
    """Print the state of campaigns: trials, gate, driver."""
    if as_json and watch:
        raise UserError("--json with --watch: leave one of the two out; --json prints the state once")
    require_meaning("--every", watch, "with --watch")
    if watch:
        from cluster.monitoring.watch import watch_campaign

        watch_campaign(storage, name, every, tracking_uri)
        return
    if tracking_uri is not None:
        raise UserError("--tracking-uri goes with --watch; without it, `compare` prints the page of a phase")
    from cluster.monitoring.status import print_status

    print_status(storage, name, as_json)


@click.command()
@storage_option
@name_option
@click.option("--timeout", type=NumberType(min=0), default=60.0, help="seconds to wait for the end")
def stop(storage: Path, name: str | None, timeout: float) -> int:
    """Stop a running campaign. `resume` continues it."""
    return stop_campaign(storage, name, timeout)


def stop_campaign(storage: Path, name: str | None, timeout: float) -> int:
    """Ask a campaign's driver to end, on whatever host it runs, and wait for it. Returns the exit code."""
    chosen = choose(storage, name)
    folder = CampaignFolder(storage.expanduser() / chosen)
    if not folder.is_driven():
        print(f"{chosen} is not running")
        return 0
    folder.request_stop()
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if not folder.is_driven():
            print(f"{chosen} has stopped; to continue: {command('resume', '--storage', storage, '--name', chosen)}")
            return 0
        time.sleep(POLL_S)
    print(f"{chosen} was asked to stop, and still runs after {timeout:g} s")
    return 1


@click.command()
@storage_option
@name_option
@click.option("--format", "file_format", default="csv", help="csv, parquet or json")
@click.option("--out", type=NEW_FILE, help="file to write  [default: results.FORMAT in the campaign's folder]")
def results(storage: Path, name: str | None, file_format: str, out: Path | None) -> None:
    """Write a table with one row a trial: configuration, metrics, status."""
    from tune_spaces.records.results_table import FORMATS, export

    if file_format not in FORMATS:
        raise UserError(f"--format {file_format}: use {', '.join(FORMATS)}")
    campaign = Campaign.load(storage, choose(storage, name))
    table = campaign.results()
    if table.empty:
        raise UserError(f"campaign {campaign.name} has no trial yet: run it with resume")
    path = out or campaign.folder / f"results.{file_format}"
    require_writable(path.parent, "--out")
    export(table, path, file_format)
    print(f"{len(table)} trials: {path}")


@click.command()
@click.argument("logs", nargs=-1, required=True, type=FILE)
@click.option("--into", type=FOLDER, default="archive", help="folder of the archive")
def archive(logs: tuple[Path, ...], into: Path) -> None:
    """Move logs of earlier runs into a dated folder with a manifest; nothing is lost."""
    from cluster.archive import archive as move_logs
    from cluster.archive import check, not_moved

    check(logs, into)
    require_writable(into, "--into")
    folder = move_logs(logs, into)
    print(folder)
    if left := not_moved(folder):
        print(f"note: left in their place, as they are no files: {', '.join(left)}", file=sys.stderr)


COMMANDS = (resume, status, stop, results, archive)
