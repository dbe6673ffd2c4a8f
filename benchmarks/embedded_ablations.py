"""Measure what each part contributes on the embedded pair: toggles, bridges, pooling, K, injections, controls.

    python -m benchmarks.embedded_ablations --out benchmarks/results/embedded --processes 2

Runs the jobs of all variants, three seeds each, in processes of their own (no Ray; on CPUs or shared GPUs), then writes
table.json and table.md: mean accuracy over seeds with its interval, and the paired difference to `full` over seeds and
items; accuracy at K soft tokens beside text of K tokens (k4 to k64, `full` with K = 16, and `soft_only-long` likewise);
the entropy of attention weights. Finished jobs are kept, so a second call runs only those that are missing.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.embedded_tables import attention, compressed, compression
from benchmarks.latencies import ALONE_FILE

SEEDS = (0, 1, 2)
COMPRESSIONS = (4, 8, 16, 32, 64)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
RANDOM_SOURCE = "random_source"
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
    named |= {f"k{k}": {"soft_tokens": k} for k in COMPRESSIONS if k != 16}  # which is full
    # Baselines at a number of tokens depend on no bridge: one variant has them for all.
    named["k4"] |= {"text_budgets": COMPRESSIONS}
    swap = {"source": "embedded:target", "target": "embedded:source"}
    named |= {
        "attention-pooling": {"pooling": "attention"},
        "dit-mean-pooling": {"bridge": "dit", "pooling": "mean"},
        "dit-attention-pooling": {"bridge": "dit", "pooling": "attention"},
        "resampler": {"bridge": "resampler"},
        "swap": swap,
        "swap-random_source": {"source": "random:embedded:target", "target": "embedded:source"},
        "swap-soft_only-long": {**swap, "layout": "soft_only", "steps": 1600, "eval_every": 400},
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
    long = named["soft_only-long"]
    return named | {f"soft_only-long-k{k}": {**long, "soft_tokens": k} for k in COMPRESSIONS if k != 16}


def jobs(names: list[str], seeds: tuple[int, ...]) -> Iterator[tuple[str, int]]:
    """Yield variants and seeds, seed by seed, so that an interrupted run has every variant under the first seeds.

    Within a seed the longest jobs come first. Twins with a random source come after all other jobs.
    """
    twins = {random_twin_of(name) for name in names}
    for group in ([name for name in names if name not in twins], [name for name in names if name in twins]):
        for seed in seeds:
            for name in sorted(group, key=lambda name: "long" not in name):
                yield name, seed


def random_twin_of(name: str) -> str:
    """Return the name of the variant that differs from another in nothing but a source of random weights."""
    return RANDOM_SOURCE if name == "full" else f"{name}-{RANDOM_SOURCE}"


Variants = Mapping[str, Mapping[str, Any]]
"""The fields that each variant changes in the preset `tiny`, by its name."""


def run_job(out: Path, name: str, seed: int, device: str, changes: Mapping[str, Any], settings: dict[str, str]) -> None:
    """Run one job, which writes its samples, events and result to OUT/NAME-sSEED."""
    import torch

    from bridge_common.files import write_json
    from bridge_common.trial_folder import TrialFolder
    from ray_bridge.config.fingerprint import fingerprint
    from ray_bridge.config.presets import preset, split_settings
    from ray_bridge.distributed import Worker
    from ray_bridge.training.session import LocalSession
    from ray_bridge.training.trainer import Trainer

    torch.set_num_threads(1)
    fitted = {"steps": 0} if changes.get("steps") == 0 else {}  # a bridge that is not trained stays so
    job, run = split_settings({**changes, **settings, **fitted})
    spec, where = preset("tiny", {**job, "seed": seed}, {"workers": 1, "autocast": False, **run})
    folder = out / f"{name}-s{seed}"
    result = Trainer(
        spec, where, folder, LocalSession(folder, Worker(device=torch.device(device))), out / "cache"
    ).run()
    record = {"variant": name, "seed": seed, "fingerprint": fingerprint(spec), "spec": spec.model_dump(mode="json")}
    TrialFolder(folder).begin(record)  # what reads a trial's folder reads this one, such as `Translator.load`
    write_json(folder / "result.json", result)


def table(out: Path, names: list[str], seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return one row per variant: accuracy by condition and group of words, intervals, differences and costs."""
    import numpy as np

    from bridge_common.files import read_json, read_jsonl
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
        clusters = np.unique([s.get("cluster") or s["id"] for s in first], return_inverse=True)[1]
        row["clusters"] = int(clusters.max()) + 1
        own = np.array([[s["bridged_correct"] for s in samples] for samples in by_seed.values()], dtype=float)
        row["bridged_by_seed"] = own.mean(axis=1).tolist()
        against = {"full": samples_of.get("full", {}), "target_alone": by_seed, "shuffled_soft": by_seed}
        against[RANDOM_SOURCE] = samples_of.get(random_twin_of(name), {})
        row["low"], row["high"] = Cells.of({name: own}, clusters).accuracy(name)
        for other, samples in against.items():
            if not samples or name == other:
                continue
            field = "bridged_correct" if other in ("full", RANDOM_SOURCE) else f"{other}_correct"
            base = np.array([[s[field] for s in rows_] for rows_ in samples.values()], dtype=float)
            gap = Cells.of({name: own, other: base}, clusters).contrast({name: 1.0, other: -1.0})
            row[f"minus_{other}"] = {"estimate": gap.estimate, "low": gap.low, "high": gap.high, "p": gap.p}
        results = [read_json(out / f"{name}-s{seed}" / "result.json") for seed in by_seed]
        row["costs"] = {k: v for k, v in results[0]["metrics"].items() if k.startswith("cost/")}
        row["seconds"] = [result["seconds"] + result["evaluation_seconds"] for result in results]
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


@dataclass(frozen=True, kw_only=True)
class Study:
    """A benchmark of variants of the preset `tiny`.

    Attributes:
        module: the benchmark's module, which the processes of its jobs run.
        about: what its help says.
        variants: returns the variants.
        markdown: writes the table's rows.
        places: returns, for --out, the folder of the jobs and the files of the table, JSON and Markdown.
    """

    module: str
    about: str
    variants: Callable[[], Variants]
    markdown: Callable[[list[dict[str, Any]]], str]
    places: Callable[[Path], tuple[Path, Path, Path]]

    def main(self) -> None:
        """Run the jobs that are missing, in parallel processes, and write the table."""
        import torch

        from benchmarks.harness import described, environment

        variants = self.variants()
        args = self._arguments(list(variants))
        out, *tables = self.places(args.out.resolve())
        if args.job:
            name, _, seed = args.job.rpartition("-s")
            settings = dict(item.split("=", 1) for item in args.set)
            run_job(out, name, int(seed), args.device, variants[name], settings)
            return
        out.mkdir(parents=True, exist_ok=True)
        self._run_missing(out, args)
        rows = table(out, args.only, args.seeds)
        finished = {(n, s): out / f"{n}-s{s}" for n, s in jobs(args.only, args.seeds)}
        finished = {key: folder for key, folder in finished.items() if (folder / "result.json").is_file()}
        self._time_alone(finished, args)
        more = {"compression": compression(finished, COMPRESSIONS), "attention": attention(finished)}
        facts = described({"environment": environment(torch.device(args.device)), "rows": rows})
        facts |= {name: found for name, found in more.items() if found}
        tables[0].write_text(json.dumps(facts, indent=1) + "\n")
        tables[1].write_text(self.markdown(rows))
        print(self.markdown(rows))

    def _arguments(self, names: list[str]) -> argparse.Namespace:
        parser = argparse.ArgumentParser(description=self.about, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--out", type=Path, required=True)
        parser.add_argument("--processes", type=int, default=1)
        parser.add_argument("--device", default="cpu")
        parser.add_argument("--gpus", type=int, default=1, help="GPUs that the processes share, with --device cuda")
        parser.add_argument("--seeds", type=lambda text: tuple(map(int, text.split(","))), default=SEEDS)
        parser.add_argument("--only", type=lambda text: text.split(","), default=names, help="names of variants")
        parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change every job")
        parser.add_argument(
            "--questions", type=int, default=12, help="to time one at a time after all jobs, for accuracy at K tokens"
        )
        parser.add_argument("--limit", type=float, default=1e9, help="seconds after which unfinished jobs are ended")
        parser.add_argument("--job", help=argparse.SUPPRESS)
        args = parser.parse_args()
        if unknown := [name for name in args.only if name not in names]:
            parser.error(f"--only {unknown[0]}: there are {', '.join(names)}")
        return args

    def _time_alone(self, finished: Mapping[tuple[str, int], Path], args: argparse.Namespace) -> None:
        """Time one finished job of each variant of accuracy at K tokens, now that no other job is running."""
        first = {name: folder for (name, _), folder in reversed(finished.items()) if name in compressed(COMPRESSIONS)}
        folders = [str(folder) for folder in first.values() if not (folder / ALONE_FILE).is_file()]
        if len(first) < 2 or not folders or not args.questions:
            return
        command = [sys.executable, "-m", "benchmarks.latencies", *folders, "--device", args.device]
        command += ["--questions", str(args.questions)]
        subprocess.run(command, env=os.environ | ONE_THREAD, check=False)  # the table is written without, too

    def _run_missing(self, out: Path, args: argparse.Namespace) -> None:
        started, started_jobs = time.monotonic(), 0
        todo = [f"{n}-s{s}" for n, s in jobs(args.only, args.seeds)]
        todo = [job for job in todo if not (out / job / "result.json").is_file()]
        running: dict[str, subprocess.Popen[bytes]] = {}
        environment = os.environ | ONE_THREAD
        while (todo or running) and time.monotonic() - started < args.limit:
            for job, process in list(running.items()):
                if process.poll() is not None:
                    del running[job]
                    print(f"{time.monotonic() - started:7.1f} s  {job}: exit code {process.returncode}", flush=True)
            while todo and len(running) < args.processes:
                job = todo.pop(0)
                command = [sys.executable, "-m", self.module, "--out", str(args.out.resolve())]
                command += ["--device", args.device, "--job", job]
                command += [part for item in args.set for part in ("--set", item)]
                gpu = {"CUDA_VISIBLE_DEVICES": str(started_jobs % args.gpus)} if args.device == "cuda" else {}
                started_jobs += 1
                with (out / "log.txt").open("ab") as log:
                    running[job] = subprocess.Popen(command, env=environment | gpu, stdout=log, stderr=log)
            time.sleep(0.2)
        for process in running.values():
            process.kill()


ABLATIONS = Study(
    module="benchmarks.embedded_ablations",
    about=str(__doc__),
    variants=variants,
    markdown=markdown,
    places=lambda out: (out, out / "table.json", out / "table.md"),
)


if __name__ == "__main__":
    ABLATIONS.main()
