"""Measure what each part contributes on the embedded pair: toggles, bridges, pooling, K, injections, controls.

    python -m benchmarks.embedded_ablations --out benchmarks/results/embedded --processes 2

Runs the jobs of all variants, three seeds each, in processes of their own (no Ray; on CPUs or shared GPUs), then writes
table.json and table.md: mean accuracy over seeds with its interval, and the paired difference to `full` over seeds and
items. Finished jobs are kept, so a second call runs only those that are missing.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SEEDS = (0, 1, 2)
OFF = {"kl_alignment": False, "prompt_alignment": False, "decode_aware": False, "geometry_projection": False}
TOGGLES = {
    "kl": "kl_alignment",
    "prompt": "prompt_alignment",
    "decode": "decode_aware",
    "projection": "geometry_projection",
}


def variants() -> dict[str, dict[str, Any]]:
    """Return, by the name of each variant, the fields that it changes in the preset `tiny`."""
    named: dict[str, dict[str, Any]] = {"full": {}}
    named |= {f"no-{key}": {field: False} for key, field in TOGGLES.items()}
    named["none"] = dict(OFF)
    named |= {f"only-{key}": OFF | {field: True} for key, field in TOGGLES.items()}
    named |= {f"k{k}": {"soft_tokens": k} for k in (4, 64)}
    named |= {
        "dit-mean-pooling": {"bridge": "dit", "pooling": "mean"},
        "dit-attention-pooling": {"bridge": "dit", "pooling": "attention"},
        "resampler": {"bridge": "resampler"},
        "velocity": {"flow_prediction": "velocity"},
        "no-flow-teacher": {"flow_teacher": "none"},
        "hybrid-residual": {"injection": "residual"},
        "hybrid-residual-open": {"injection": "residual", "gate_init": 1.0},
        "hybrid-adapter-closed": {"injection": "adapter"},
        "hybrid-adapter-closed-early": {"injection": "adapter", "adapter_layers": "1,2,3"},
        "hybrid-adapter": {"injection": "adapter", "gate_init": 1.0},
        "hybrid-adapter-early": {"injection": "adapter", "gate_init": 1.0, "adapter_layers": "1,2,3"},
        "random_source": {"source": "random:embedded:source"},
        "constant": {"bridge": "constant", "geometry_projection": False},
        "soft_only": {"layout": "soft_only"},
        "soft_only-curriculum": {"layout": "soft_only", "prompt_share": 0.6},
        "soft_only-long": {"layout": "soft_only", "steps": 1600, "eval_every": 400},
        "soft_only-long-curriculum": {"layout": "soft_only", "prompt_share": 0.8, "steps": 1600, "eval_every": 400},
    }
    return named


def jobs(names: list[str], seeds: tuple[int, ...]) -> Iterator[tuple[str, int]]:
    """Yield variants and seeds, seed by seed, so that an interrupted run has every variant under the first seeds.

    Within a seed the longest jobs come first.
    """
    for seed in seeds:
        for name in sorted(names, key=lambda name: "long" not in name):
            yield name, seed


def run_job(out: Path, name: str, seed: int, device: str, settings: dict[str, str]) -> None:
    """Run one job, which writes its samples, events and result to OUT/NAME-sSEED."""
    import torch

    from bridge_common.files import write_json
    from ray_bridge.config.presets import preset, split_settings
    from ray_bridge.distributed import Worker
    from ray_bridge.training.session import LocalSession
    from ray_bridge.training.trainer import Trainer

    torch.set_num_threads(1)
    changes = dict(variants()[name])
    job, run = split_settings({**changes, **settings})
    spec, where = preset("tiny", {**job, "seed": seed}, {"workers": 1, "autocast": False, **run})
    folder = out / f"{name}-s{seed}"
    result = Trainer(
        spec, where, folder, LocalSession(folder, Worker(device=torch.device(device))), out / "cache"
    ).run()
    write_json(folder / "result.json", result)


def table(out: Path, names: list[str], seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return one row per variant: accuracy by condition and group of words, interval, and difference to `full`."""
    import numpy as np

    from bridge_common.files import read_jsonl
    from bridge_common.metric_names import CONDITIONS
    from tune_spaces.analysis.estimates import Cells

    samples_of: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for name, seed in jobs(names, seeds):
        folder = out / f"{name}-s{seed}"
        if (folder / "result.json").is_file():
            samples_of.setdefault(name, {})[seed] = read_jsonl(folder / "samples.jsonl")
    rows = []
    for name, by_seed in ((name, samples_of[name]) for name in names if name in samples_of):
        first = next(iter(by_seed.values()))
        row: dict[str, Any] = {"variant": name, "seeds": sorted(by_seed), "n": len(first)}
        for condition in CONDITIONS:
            row[condition] = _mean(by_seed, condition, None)
        for group in ("none", "seen", "transfer"):
            row[f"bridged/{group}"] = _mean(by_seed, "bridged", group)
            row[f"target_alone/{group}"] = _mean(by_seed, "target_alone", group)
        own = np.array([[s["bridged_correct"] for s in samples] for samples in by_seed.values()], dtype=float)
        against = {"full": samples_of.get("full", {}), "target_alone": by_seed}
        row["low"], row["high"] = Cells.of({name: own}).accuracy(name)
        for other, samples in against.items():
            if not samples or name == other:
                continue
            field = "bridged_correct" if other == "full" else "target_alone_correct"
            base = np.array([[s[field] for s in rows_] for rows_ in samples.values()], dtype=float)
            gap = Cells.of({name: own, other: base}).contrast({name: 1.0, other: -1.0})
            row[f"minus_{other}"] = {"estimate": gap.estimate, "low": gap.low, "high": gap.high, "p": gap.p}
        rows.append(row)
    return rows


def _mean(by_seed: dict[int, list[dict[str, Any]]], condition: str, group: str | None) -> float:
    values = [
        float(row[f"{condition}_correct"])
        for samples in by_seed.values()
        for row in samples
        if group is None or row["words"] == group
    ]
    return sum(values) / len(values) if values else float("nan")


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table in Markdown, in percent."""
    head = (
        "| variant | seeds | bridged | 95 % interval | numerals | seen | transfer | shuffled soft | "
        "− target alone | − full |"
    )
    lines = [head, "|---" * 10 + "|"]
    for row in rows:
        gaps = []
        for other in ("target_alone", "full"):
            gap = row.get(f"minus_{other}")
            text = (
                ""
                if gap is None
                else f"{100 * gap['estimate']:+.1f} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]"
            )
            gaps.append(text)
        parts = [f"{100 * row[f'bridged/{group}']:.1f}" for group in ("none", "seen", "transfer")]
        lines.append(
            f"| {row['variant']} | {len(row['seeds'])} | {100 * row['bridged']:.1f} | "
            f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}] | {' | '.join(parts)} | "
            f"{100 * row['shuffled_soft']:.1f} | {' | '.join(gaps)} |"
        )
    return "\n".join(lines) + "\n"


def machine(device: str) -> dict[str, str]:
    """Return the device, cores and versions."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {
        "device": name,
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Run the jobs that are missing, in parallel processes, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that the processes share, with --device cuda")
    parser.add_argument("--seeds", type=lambda text: tuple(map(int, text.split(","))), default=SEEDS)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(variants()))
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change the preset for all")
    parser.add_argument("--limit", type=float, default=1e9, help="seconds after which unfinished jobs are ended")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    out = args.out.resolve()
    settings = dict(item.split("=", 1) for item in args.set)
    if args.job:
        name, _, seed = args.job.rpartition("-s")
        run_job(out, name, int(seed), args.device, settings)
        return
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    todo = [f"{n}-s{s}" for n, s in jobs(args.only, args.seeds) if not (out / f"{n}-s{s}" / "result.json").is_file()]
    running: dict[str, subprocess.Popen[bytes]] = {}
    started_jobs = 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    while (todo or running) and time.monotonic() - started < args.limit:
        for job, process in list(running.items()):
            if process.poll() is not None:
                del running[job]
                print(f"{time.monotonic() - started:7.1f} s  {job}: exit code {process.returncode}", flush=True)
        while todo and len(running) < args.processes:
            job = todo.pop(0)
            command = [
                sys.executable,
                "-m",
                "benchmarks.embedded_ablations",
                "--out",
                str(out),
                "--device",
                args.device,
                "--job",
                job,
            ]
            command += [part for item in args.set for part in ("--set", item)]
            gpu = {"CUDA_VISIBLE_DEVICES": str(started_jobs % args.gpus)} if args.device == "cuda" else {}
            started_jobs += 1
            with (out / "log.txt").open("ab") as log:
                running[job] = subprocess.Popen(command, env=environment | gpu, stdout=log, stderr=log)
        time.sleep(0.2)
    for process in running.values():
        process.kill()
    rows = table(out, args.only, args.seeds)
    (out / "table.json").write_text(
        json.dumps({"machine": machine(args.device), "command": " ".join(sys.argv), "rows": rows}, indent=1) + "\n"
    )
    (out / "table.md").write_text(markdown(rows))
    print(markdown(rows))


if __name__ == "__main__":
    main()
