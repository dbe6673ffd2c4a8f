"""How a sweep's duration falls with the number of nodes: measured with sleeping jobs, and simulated to 1,000 nodes.

    python -m benchmarks.scaling measured [--nodes 1 2 4 8] [--trials 12] [--seconds 30]
    python -m benchmarks.scaling many [--trials 200] [--parallel 16]
    python -m benchmarks.scaling simulated [--trials 10000] [--seconds 600] [--tune-cost 0.3]

`measured` runs Ray nodes with two fake GPUs each in network namespaces, which needs root and iproute2. A job holds a
node's GPUs and sleeps; `one at a time` is `--parallel 1`. `many` runs jobs that do nothing, so what remains
is the cost of a trial in driver and head, and their memory. `simulated` calls the real policy and searcher under a fake
clock: the driver is one server, which spends the searcher's own measured time and `--tune-cost` on each trial.
"""

import argparse
import heapq
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import command, python_path, results_folder, save
from bridge_common.errors import UserError
from ray_bridge import RunSpec, tiny, tiny_run
from tests.support.campaigns import DIRECT, PLACED, journal, prepare
from tests.support.hosts import hosts, no_hosts
from tests.support.ray_clusters import ENVIRONMENT, ray_cluster, ray_environment
from tune_spaces.campaign import Campaign
from tune_spaces.design.parallel import AUTO, Parallel, parse_parallel
from tune_spaces.design.phases import Phase
from tune_spaces.design.plan import Plan
from tune_spaces.design.variants import full
from tune_spaces.gate.policy import Policy
from tune_spaces.records.campaign_folder import CampaignFolder

NODE = {"cpus": 1, "gpus": 2}
SCALES = (1, 3, 10, 30, 100, 300, 1000)
TUNE_COST_S = 0.3  # between two trials that use one actor, on two idle cores


def sweep(storage: Path, trials: int, run: RunSpec) -> Campaign:
    """Return one variant under as many seeds as there are to be trials."""
    phase = Phase(name="scaling", goal="makespan", first=(full(),))
    return Campaign(phase, tiny(), run, storage=storage, name="c", seeds=range(trials))


def measured(nodes: Sequence[int], trials: int, seconds: float) -> dict[str, Any]:
    """Run a sweep on each number of nodes, and one trial at a time on the largest."""
    if reason := no_hosts():
        raise UserError(f"cannot measure: {reason}")
    rows: list[dict[str, Any]] = []
    with hosts() as network:

        def timed(parallel: Parallel) -> dict[str, Any]:
            options = ["--trials", str(trials), "--seconds", str(seconds), "--parallel", str(parallel)]
            line = network.command(0, [sys.executable, "-m", "benchmarks.scaling", "sweep", *options])
            environment = {**os.environ, **ENVIRONMENT, "RAY_ADDRESS": network.address, "PYTHONPATH": python_path()}
            done = subprocess.run(line, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            return dict(json.loads(done.stdout.splitlines()[-1]))

        for count in sorted(nodes):
            for _ in range(count - (rows[-1]["nodes"] if rows else 0)):
                network.add(**NODE)
            rows.append({"nodes": count, **timed(AUTO)})
            print(rows[-1], flush=True)
        alone = timed(1)
    for row in rows:
        row["speedup"] = round(alone["makespan_s"] / row["makespan_s"], 2)
    return {"trials": trials, "job_s": seconds, "one_at_a_time": alone, "nodes": rows}


def timed_sweep(trials: int, seconds: float, parallel: Parallel) -> dict[str, Any]:
    """Run a sweep on the environment's Ray; return the seconds from the first job's start to the last one's end."""
    with tempfile.TemporaryDirectory() as name:
        storage = Path(name)
        prepare(storage, {"full": 0.6}, steps=1, pause=seconds)
        campaign = sweep(storage, trials, tiny_run(workers=2, use_gpu=True, cpus_per_worker=0.5))
        began = time.time()
        policy = campaign.run(PLACED, parallel=parallel)
        ended = time.time()
        assert policy.finished
        assert not any(outcome.failed for outcome in policy.outcomes.values())
        moments = [row["time"] for row in journal(storage)]
    return {"makespan_s": round(max(moments) - min(moments), 1), "with_start_s": round(ended - began, 1)}


def many(trials: int, parallel: Parallel) -> dict[str, Any]:
    """Run jobs that do nothing; return seconds a trial, and memory of driver and head over time."""
    import ray

    memory: list[dict[str, float]] = []
    with ray_cluster() as cluster, ray_environment(), tempfile.TemporaryDirectory() as name:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        storage = Path(name)
        prepare(storage, {"full": 0.6}, steps=0)
        campaign = sweep(storage, trials, tiny_run(workers=1))
        over = threading.Event()

        def watch() -> None:
            while not over.wait(2.0):
                memory.append({"trials": _ended(storage), **_memory_mib()})

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            assert campaign.run(DIRECT, parallel=parallel).finished
        finally:
            over.set()
            thread.join()
            ray.shutdown()
        ends = sorted(row["time"] for row in journal(storage) if row["event"] == "end")
    warm = ends[len(ends) // 4 :]
    found = {"trials": trials, "parallel": parallel, "whole_s": round(ends[-1] - ends[0], 1)}
    found["s_per_trial"] = round((warm[-1] - warm[0]) / (len(warm) - 1), 3)
    quarters = [memory[len(memory) * part // 4] for part in (1, 2, 3)] + [memory[-1]]
    return {**found, "memory_mib": quarters}


def _ended(storage: Path) -> int:
    return sum(row["event"] == "end" for row in journal(storage))


def _memory_mib() -> dict[str, float]:
    """Return the resident memory of this process and of the head's own processes."""
    heads = {"gcs_server": 0.0, "raylet": 0.0}
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name() in heads:
                heads[process.name()] += process.memory_info().rss / 2**20
        except psutil.NoSuchProcess:
            continue
    own = psutil.Process().memory_info().rss / 2**20
    return {"driver": round(own), **{name: round(value) for name, value in heads.items()}}


def simulated(trials: int, seconds: float, tune_cost: float) -> dict[str, Any]:
    """Simulate a sweep on each number of nodes: every trial takes `seconds`, give or take a fifth."""
    rows: list[dict[str, Any]] = []
    campaign = sweep(Path("unused"), trials, tiny_run())  # planned once; nothing is written
    for nodes in SCALES:
        rows.append(_simulate(campaign.plan, nodes, seconds, tune_cost))
        ideal = rows[0]["makespan_h"] / nodes
        rows[-1]["efficiency"] = round(ideal / rows[-1]["makespan_h"], 3)
        print(rows[-1], flush=True)
    return {"trials": trials, "job_s": seconds, "tune_s_per_trial": tune_cost, "nodes": rows}


def _simulate(plan: Plan, nodes: int, seconds: float, tune_cost: float) -> dict[str, Any]:
    from tune_spaces.ray_tune.searcher import VariantSearcher

    draw = random.Random(0)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        policy, folder = Policy(first=plan.first), CampaignFolder(Path(name) / "c")
        searcher = VariantSearcher(policy, plan.trials, folder, tiny_run(), parallel=AUTO, slots=lambda: nodes)
        clock = busy = 0.0  # the driver's time, and how much of it was work
        running: list[tuple[float, str]] = []
        result = {"accuracy/bridged": 0.6, "n": 1000, "final": True}
        number, most = 0, 0
        while True:
            began = time.perf_counter()
            config = searcher.suggest(f"t{number}")
            cost = time.perf_counter() - began
            if isinstance(config, dict):
                clock, busy, number = clock + cost + tune_cost, busy + cost + tune_cost, number + 1
                heapq.heappush(running, (clock + seconds * draw.uniform(0.8, 1.2), f"t{number - 1}"))
                most = max(most, len(running))
                continue
            if not running:
                break
            ended, trial = heapq.heappop(running)
            clock = max(clock, ended)
            began = time.perf_counter()
            searcher.on_trial_complete(trial, result=result)
            cost = time.perf_counter() - began
            clock, busy = clock + cost, busy + cost
        assert policy.finished
        assert number == len(plan.trials)
    own = busy / number - tune_cost
    return {
        "nodes": nodes,
        "makespan_h": round(clock / 3600, 3),
        "most_at_once": most,
        "searcher_ms_per_trial": round(1e3 * own, 2),
        "driver_busy": round(busy / clock, 3),
    }


def _merge(part: str, found: dict[str, Any]) -> None:
    """Save one part, with its command, beside the others' earlier results."""
    path = results_folder() / "scaling.json"
    earlier = json.loads(path.read_text()) if path.is_file() else {}
    earlier = {name: value for name, value in earlier.items() if name not in ("environment", "command")}
    save("scaling", {**earlier, part: {"command": command(), **found}})


def main() -> None:
    """Measure or simulate, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("measured", "many", "simulated", "sweep"), help="sweep: one of `measured`")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--trials", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--tune-cost", type=float, default=TUNE_COST_S, help="seconds of a trial in Tune's loop")
    parser.add_argument("--parallel", type=parse_parallel, default=16)
    asked = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if asked.part == "sweep":
        print(json.dumps(timed_sweep(asked.trials, asked.seconds, asked.parallel)))
        return
    if asked.part == "measured":
        found = measured(asked.nodes, asked.trials or 12, asked.seconds or 30)
    elif asked.part == "many":
        found = many(asked.trials or 200, asked.parallel)
    else:
        found = simulated(asked.trials or 10_000, asked.seconds or 600, asked.tune_cost)
    print(json.dumps(found))
    _merge(f"simulated_{asked.tune_cost:g}" if asked.part == "simulated" else asked.part, found)


if __name__ == "__main__":
    main()
