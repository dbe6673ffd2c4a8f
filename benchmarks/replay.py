"""Measure the replay of records that an outage of the tracking server left on disk: peak memory, and points a second.

    python -m benchmarks.replay [--points 100000,1000000] [--a-trial 100000] [--folder DIR]

For each number of points, event logs of so many metric values are written as trials leave them, and a process of its
own sends them all to a new SQLite database with `Tracker.replay`. With `--a-trial 0` one trial has all points. The
process first sends a campaign of one short trial, so that its memory before the replay includes MLflow. The result
goes to replay.json.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import python_path, save
from bridge_common import files
from bridge_common.git import code_facts
from mlflow_utils.tracker import Tracker
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support.campaign_folder import START, begin_trial, make_campaign, make_trial, status_event, step_event

NAME, CAMPAIGN = "replay", "spool"
VALUES = len(step_event(1, START)["values"])  # of one step
LONGEST = 4 * 3600.0  # seconds that a replay may take


def make_spool(storage: Path, points: int, a_trial: int) -> Path:
    """Write a campaign whose trials have so many points together, none of them sent, and return its folder.

    Args:
        storage: folder of the campaign.
        points: number of metric values, rounded up to whole steps.
        a_trial: number of values of a trial, 0 for one trial of all.
    """
    folder = make_campaign(storage, CAMPAIGN, variants=[])
    left, seed = points, 0
    while left > 0:
        steps = -(-min(left, a_trial or left) // VALUES)
        trial = begin_trial(folder, "full", seed=seed)
        with (trial / "events.jsonl").open("w", encoding="utf-8") as log:
            log.write(files.json_line(status_event("RUNNING")))
            for step in range(1, steps + 1):
                log.write(files.json_line(step_event(step, START + step, seed)))
            log.write(files.json_line(status_event("FINISHED", START + steps + 1)))
        left, seed = left - steps * VALUES, seed + 1
    return folder


def recorded(folder: Path) -> int:
    """Return the number of points of a campaign's event logs."""
    lines = 0
    for log in folder.glob("trials/*/events.jsonl"):
        with log.open(encoding="utf-8") as file:
            lines += sum(line.startswith('{"kind": "metrics"') for line in file)
    return lines * VALUES


def measured_here(storage: Path) -> dict[str, Any]:
    """Replay the spool of a storage in this process, and return its memory in MiB and its seconds."""
    warm = storage / "warm"
    make_trial(make_campaign(warm, "warm", variants=[]), "full", steps=5)
    assert Tracker.replay(default_tracking_uri(warm), "warm", warm / "warm", timeout=300) is None
    before = psutil.Process().memory_info().rss / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    began = time.perf_counter()
    unsent = Tracker.replay(default_tracking_uri(storage), CAMPAIGN, storage / CAMPAIGN, timeout=LONGEST)
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text().splitlines()
    (peak,) = [int(line.split()[1]) / 2**10 for line in status if line.startswith("VmHWM:")]
    return {"unsent": unsent and str(unsent), "seconds": seconds, "before_mib": before, "peak_mib": peak}


def measure(place: Path, points: int, a_trial: int) -> dict[str, Any]:
    """Write a spool, replay it in a process of its own, and return what that took."""
    storage = Path(tempfile.mkdtemp(prefix="spool-", dir=place))
    try:
        folder = make_spool(storage, points, a_trial)
        count = recorded(folder)
        log_bytes = sum(log.stat().st_size for log in folder.glob("trials/*/events.jsonl"))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.replay", "--measure", str(storage)],
            env={**os.environ, "PYTHONPATH": python_path()},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        if found["unsent"]:
            raise RuntimeError(found["unsent"])
        return {
            "points": count,
            "trials": sum(1 for _ in folder.glob("trials/*")),
            "log_mib": round(log_bytes / 2**20, 1),
            "database_mib": round((storage / "mlflow.db").stat().st_size / 2**20, 1),
            "seconds": round(found["seconds"], 1),
            "points_a_second": round(count / found["seconds"]),
            "before_mib": round(found["before_mib"], 1),
            "peak_mib": round(found["peak_mib"], 1),
        }
    finally:
        shutil.rmtree(storage)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all sizes; print and save the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", default="100000,1000000", help="numbers of points, separated by commas")
    parser.add_argument("--a-trial", type=int, default=100_000, help="points of a trial; 0: one trial has all")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where spools are written")
    parser.add_argument("--name", default=NAME, help="name of the result")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measured_here(options.measure)))
        return
    code, rows = code_facts(Path(__file__).resolve().parents[1]), []
    for points in map(int, options.points.split(",")):
        rows.append(measure(options.folder, points, options.a_trial))
        print(json.dumps(rows[-1]), flush=True)
    machine = {"cpus": os.cpu_count(), "memory_gib": round(psutil.virtual_memory().total / 2**30, 1)}
    machine |= {"system": platform.platform(), "load": [round(load, 1) for load in os.getloadavg()]}
    versions = {"mlflow": version("mlflow"), "python": platform.python_version()}
    versions |= {"commit": code["commit"], "changed_files": code["changed"]}
    print(save(options.name, {"machine": machine, "versions": versions, "replays": rows}))


if __name__ == "__main__":
    main()
