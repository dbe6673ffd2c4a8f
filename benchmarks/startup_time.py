"""Time the start of a trial, up to its first training step, and its parts: models, embedding map, statistics.

    python -m benchmarks.startup_time --size tiny                    two trials under Ray Train, two minutes on a CPU
    python -m benchmarks.startup_time --size paper --workers 4       30 GB of random weights, written to --folder first

Under Ray two trials run one after the other; the second finds files in the page cache and the fitted map and baselines
in the node's cache. `--parts` times each part alone, in one process, and beside it the standard way to do the same.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import default_device, python_path, save, wait
from benchmarks.random_models import bench_spec, save_checkpoint
from bridge_common.files import read_log
from ray_bridge.bridges.whitening import Moments, Whitening
from ray_bridge.config.checkpoint_names import resolve
from ray_bridge.config.presets import paper_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.models.embedding_map import fit_map
from ray_bridge.models.weights import auto_classes, load_model, read_ahead, to_device, weight_files

PAIRS = 20_000  # about as many strings as Mistral's and Llama 3's vocabularies share
SHAPES = {"tiny": (2000, 256), "paper": (PAIRS, 4096)}


def checkpoints(size: str, folder: Path, device: torch.device) -> dict[str, str]:
    """Return the names of source and target; for the size `paper`, first save checkpoints with random weights."""
    names = {side: f"embedded:{side}" for side in ("source", "target")}
    if size == "tiny":
        return names
    from transformers import AutoTokenizer

    for side, embedded in list(names.items()):
        names[side] = str(folder / side)
        if not (folder / side / "config.json").is_file():
            save_checkpoint(side, folder / side, AutoTokenizer.from_pretrained(resolve(embedded)), device)
    return names


def trials(size: str, names: dict[str, str], workers: int, folder: Path) -> dict[str, Any]:
    """Run two variants under Ray Train, one after the other; return the seconds up to the first step, by part."""
    import ray

    from ray_bridge.job import run_job

    spec = start_spec(size, names, workers)
    gpu = torch.cuda.is_available()
    run = paper_run(workers=workers, use_gpu=gpu, cpus_per_worker=1)
    os.environ |= {"PYTHONPATH": python_path(), "RAY_AUTH_MODE": "disabled"}
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    begin = time.perf_counter()
    ray.init(address="local", num_cpus=workers + 1, include_dashboard=True, log_to_driver=False)
    result: dict[str, Any] = {"ray.init": round(time.perf_counter() - begin, 2)}
    try:
        for name, changes in (("first", {}), ("following", {"kl_alignment": False})):
            trial_folder = folder / "trials" / name
            begin = time.perf_counter()
            run_job(spec.replace(**changes), run, trial_folder, cache=folder / "cache")
            rows = [e["values"] for e in read_log(trial_folder / "events.jsonl") if e["kind"] == "metrics"]
            result[name] = next(row for row in rows if "start/seconds_to_first_step" in row)
            result[name]["whole trial"] = round(time.perf_counter() - begin, 2)
            print(name, result[name], flush=True)
    finally:
        ray.shutdown()
    return result


def start_spec(size: str, names: dict[str, str], workers: int) -> JobSpec:
    """Return the job with two steps, which does the same as the whole job up to its first step."""
    return bench_spec(
        size,
        source=names["source"],
        target=names["target"],
        batch_size=2 * workers,
        steps=2,
        eval_every=2,
        test_examples=workers,
        geometry_projection=True,
        num_fewshot=8 if size == "paper" else 2,  # the embedded pair reads 512 positions
    )


def parts(size: str, names: dict[str, str], device: torch.device) -> dict[str, Any]:
    """Return the seconds of each part of the start, in one process."""
    result: dict[str, Any] = {}

    def timed(name: str, action: Callable[[], Any]) -> Any:
        wait(device)
        begin = time.perf_counter()
        value = action()
        wait(device)
        result[name] = round(time.perf_counter() - begin, 3)
        print(f"{name}: {result[name]} s", flush=True)
        return value

    timed("transformers imported", auto_classes)
    dtype = "bfloat16" if size == "paper" else "float32"
    for side, name in names.items():
        gigabytes = sum(path.stat().st_size for path in weight_files(name)) / 1e9
        result[f"{side}: GB"] = round(gigabytes, 2)
        timed(f"{side}: read into the page cache", lambda name=name: read_ahead([(name, None)], 0, 1).join())
        timed(f"{side}: read again", lambda name=name: read_ahead([(name, None)], 0, 1).join())
        for way, move in (("several threads", to_device), ("Module.to", lambda model, place: model.to(place))):
            model = timed(
                f"{side}: mapped ({way})",
                lambda name=name: load_model(resolve(name), name, revision=None, dtype=dtype),
            )
            model = timed(f"{side}: to the device ({way})", lambda model=model, move=move: move(model, device))
            del model
    n, d = SHAPES[size]
    X = torch.randn(n, d, dtype=torch.float64, device=device)  # (n, d)
    Y = X @ torch.randn(d, d, dtype=torch.float64, device=device) / d**0.5 + torch.randn_like(X)  # (n, d)
    timed("ridge map", lambda: fit_map(X, Y, "ridge"))
    timed("Procrustes map", lambda: fit_map(X, Y, "procrustes"))
    whitening = Whitening(d).to(device)
    timed("whitening, first", lambda: whitening.fit(Moments.of(X[: d + 1])))
    timed("whitening", lambda: whitening.fit(Moments.of(X[: d + 1])))
    return result


def main() -> None:
    """Measure and save the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "paper"), default="tiny")
    parser.add_argument("--workers", type=int, default=0, help="all GPUs, or 2, by default")
    parser.add_argument("--folder", type=Path, help="folder for the random weights; temporary by default")
    parser.add_argument("--parts", action="store_true", help="time the parts alone, in one process")
    options = parser.parse_args()
    device = default_device()
    workers = options.workers or torch.cuda.device_count() or 2
    with tempfile.TemporaryDirectory() as name:
        names = checkpoints(options.size, options.folder or Path(name), device)
        seconds = (
            parts(options.size, names, device) if options.parts else trials(options.size, names, workers, Path(name))
        )
    kind = "parts" if options.parts else f"{workers}-workers"
    save(f"start-{options.size}-{kind}", {"size": options.size, "seconds": seconds})


if __name__ == "__main__":
    main()
