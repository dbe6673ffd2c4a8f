"""Measure what a long campaign costs its machine: memory, handles and threads of the processes that outlive trials.

    python -m benchmarks.long_run [--trials 500] [--embedded 3]

A campaign of cheap trials, some of them real jobs on the embedded pair, is recorded in an MLflow server. The driver,
Ray's head (its control store, raylet and dashboard) and the tracking server are measured every second. Growth is given
per finished trial, by least squares after the first fifth of the trials, with a 95 % interval that allows for
correlated errors (Newey and West, 1987). The result goes to long-run.json.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from benchmarks.harness import python_path, save
from bridge_common import files
from bridge_common.event_log import EventLog
from bridge_common.git import code_facts
from bridge_common.trial_folder import TrialFolder
from mlflow_utils.server import Server
from tests.support.ports import free_port

NAME, SETTINGS = "long-run", "long_run.json"
SERIES = 10  # training curves of a cheap trial
METRICS = 140  # in its result, as many as in that of a real job
ROLES = {"gcs_server": "head", "raylet": "head", "dashboard": "head"}
SMALL = ("steps=2", "warmup_steps=1", "eval_every=2", "validation_examples=4", "test_examples=8", "train_examples=64")
FEWEST = 4  # numbers of trials, for a line with an interval
COUNTED = ("memory_mib", "handles", "threads")


def job(spec: Any, run: Any, folder: Path, *, node_id: Any = None, callbacks: Any = (), cache: Any = None) -> Any:
    """Run one trial: a real job for the first seeds of one variant, otherwise a few events and a result."""
    asked = files.read_json(folder.parents[2] / SETTINGS)
    record = TrialFolder(folder).spec() or {}
    if record["seed"] < asked["embedded"] and record["variant"] != "none":
        from ray_bridge.job import run_job

        return run_job(spec, run, folder, node_id=node_id, callbacks=callbacks, cache=cache)
    began, log = time.time(), EventLog(folder / "events.jsonl")
    for step in range(1, asked["steps"] + 1):
        log.metrics(step, {f"loss/{name}": 1 / (step + name) for name in range(SERIES)})
        time.sleep(asked["seconds"] / asked["steps"])
    n, correct = 8, record["seed"] % 9
    metrics = {"accuracy/bridged": correct / n, "correct/bridged": correct, "n": n}
    metrics |= {f"cost/part_{part}/bridged": record["seed"] + 1 / (1 + part) for part in range(METRICS - len(metrics))}
    import ray

    result = {"variant": record["variant"], "fingerprint": record["fingerprint"], "metrics": metrics}
    result |= {"node_id": ray.get_runtime_context().get_node_id(), "gpu": None, "seconds": time.time() - began}
    TrialFolder(folder).write_result(result | {"checkpoint": None})
    return result | {"checkpoint": None}


def slope(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Return the slope of y over x by least squares, and its 95 % interval from Newey and West's covariance."""
    from statsmodels.api import OLS, add_constant

    lags = max(1, int(4 * (len(x) / 100) ** (2 / 9)))
    fit = OLS(np.asarray(y, float), add_constant(np.asarray(x, float))).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True}
    )
    low, high = fit.conf_int()[1]
    return {"slope": float(fit.params[1]), "low": float(low), "high": float(high)}


def by_trial(samples: Iterable[Mapping[str, Any]], role: str, what: str) -> tuple[list[int], list[float]]:
    """Return numbers of finished trials, and the median of a role's samples while there were so many."""
    seen: dict[int, list[float]] = {}
    for sample in samples:
        if role in sample["roles"]:
            seen.setdefault(sample["trials"], []).append(sample["roles"][role][what])
    return list(seen), [median(values) for values in seen.values()]


def look(driver: psutil.Process, server: psutil.Process) -> dict[str, dict[str, float]]:
    """Return memory (resident, in MiB), open handles and threads of each role's processes together."""
    processes = {"driver": [driver], "tracking server": [server, *server.children(recursive=True)], "head": []}
    for child in driver.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            words = " ".join(child.cmdline()[:4])
            if any(name in words for name in ROLES):
                processes["head"].append(child)
    totals: dict[str, dict[str, float]] = {}
    for role, members in processes.items():
        total = dict.fromkeys(COUNTED, 0.0)
        for process in members:
            with suppress(psutil.NoSuchProcess), process.oneshot():
                total["memory_mib"] += process.memory_info().rss / 2**20
                total["handles"] += process.num_fds()
                total["threads"] += process.num_threads()
        if members:
            totals[role] = total
    return totals


def drive(storage: Path, server: Server, trials: int) -> list[dict[str, Any]]:
    """Run the campaign, and return a sample of all roles a second."""
    command = [sys.executable, "-m", "cluster", "ablate", "--name", NAME, "--storage", str(storage)]
    command += ["--design=add-one-in", "--toggle=kl", f"--seeds={','.join(map(str, range(trials // 2)))}"]
    command += ["--job", "benchmarks.long_run:job", "--skip-preflight", "--tracking-uri", server.url]
    command += [f"--set={size}" for size in (*SMALL, "workers=1", "cpus_per_worker=1")]
    variables = {"PYTHONPATH": python_path(), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    variables |= {"ABLATE_REPORTS": str(storage / "reports")}
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | variables
    samples, results = [], storage / NAME / "trials"
    with (storage / "driver.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        assert server.process is not None
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                roles = look(psutil.Process(process.pid), psutil.Process(server.process.pid))
                done = sum(1 for _ in results.glob("*/result.json"))
                samples.append({"time": time.time(), "trials": done, "roles": roles})
            time.sleep(1)
    if process.returncode:
        raise RuntimeError((storage / "driver.log").read_text()[-3000:])
    return samples


def summary(samples: Sequence[Mapping[str, Any]], storage: Path, trials: int) -> dict[str, Any]:
    """Return the slopes per trial, the seconds and the bytes a trial."""
    settled = [sample for sample in samples if trials // 5 <= sample["trials"] < trials]  # the end writes reports
    roles: dict[str, Any] = {}
    for role in settled[-1]["roles"]:
        for what in COUNTED:
            x, y = by_trial(settled, role, what)
            if len(x) < FEWEST:
                raise ValueError(f"{role} was seen at {len(x)} numbers of trials: run more of them")
            measured = {"first": y[0], "last": y[-1], **slope(x, y)}
            roles.setdefault(role, {})[what] = {name: round(value, 4) for name, value in measured.items()}
    folders = sorted((storage / NAME / "trials").iterdir(), key=lambda path: (path / "result.json").stat().st_mtime)
    ends = [(path / "result.json").stat().st_mtime for path in folders]
    cheap = [path for path in folders if not (path / "train").exists()]
    gaps = np.diff(ends)[trials // 5 :]
    database = sum(path.stat().st_size for path in storage.glob("mlflow.db*"))
    return {
        "processes": roles,
        "seconds_a_trial": {
            **{name: round(value, 4) for name, value in slope(range(len(gaps)), gaps).items()},
            "first_half": round(float(median(gaps[: len(gaps) // 2])), 3),
            "second_half": round(float(median(gaps[len(gaps) // 2 :])), 3),
        },
        "bytes_a_trial": {
            "events": round(median((path / "events.jsonl").stat().st_size for path in cheap)),
            "folder": round(median(sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) for path in cheap)),
            "database": round(database / len(folders)),
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the campaign, print and save the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--embedded", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="training steps of a cheap trial")
    parser.add_argument("--seconds", type=float, default=3, help="of a cheap trial, two of which run at a time")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="long-", dir="/tmp") as name:
        storage = Path(name)
        files.write_json(
            storage / SETTINGS, {"embedded": options.embedded, "steps": options.steps, "seconds": options.seconds}
        )
        database = f"sqlite:///{storage / 'mlflow.db'}"
        with Server(database, storage / "mlartifacts", port=free_port(), log=storage / "server.log") as server:
            began = time.time()
            samples = drive(storage, server, options.trials)
            seconds = time.time() - began
        measured = summary(samples, storage, options.trials)
    machine = {"cpus": os.cpu_count(), "memory_gib": round(psutil.virtual_memory().total / 2**30, 1)}
    machine |= {"system": platform.platform(), "load": [round(load, 1) for load in os.getloadavg()]}
    versions = {name: version(name) for name in ("ray", "mlflow", "torch")} | {"python": platform.python_version()}
    code = code_facts(Path(__file__).resolve().parents[1])
    versions |= {"commit": code["commit"], "changed_files": code["changed"]}
    result = {"machine": machine, "versions": versions, "seconds": round(seconds)}
    result |= {"trials": options.trials, "steps": options.steps, "metrics": METRICS}
    print(json.dumps(measured, indent=1))
    print(save(NAME, result | measured))


if __name__ == "__main__":
    main()
