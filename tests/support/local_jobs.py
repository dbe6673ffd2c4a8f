"""Small whole jobs that run in this process, without Ray."""

from pathlib import Path
from typing import Any

import torch

from bridge_common.files import read_log, write_json
from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.config.run_spec import RunSpec
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.model_pairs import PairFolders

SMALL: dict[str, Any] = {
    "soft_tokens": 4,
    "hidden_size": 16,
    "num_heads": 2,
    "depth": 1,
    "train_examples": 40,
    "validation_examples": 8,
    "test_examples": 13,
    "max_new_tokens": 6,
    "steps": 12,
    "batch_size": 4,
    "warmup_steps": 2,
    "eval_every": 4,
    "decode_aware": False,
    "ema_decay": 0.5,
}


def small_spec(pair: PairFolders, **changes: Any) -> JobSpec:
    """Return the spec of a job of 12 steps."""
    return tiny(source=pair.source, target=pair.target, **(SMALL | changes))


def run_job(spec: JobSpec, folder: Path, **changes: Any) -> dict[str, Any] | None:
    """Run a job in this process and return its result, None if it was asked to stop; `changes` go to its RunSpec."""
    run = tiny_run(**({"workers": 1, "checkpoint_every": 2} | changes))
    torch.set_num_threads(1)
    return Trainer(spec, run, folder, LocalSession(folder), folder / "cache").run()


def in_the_trials_process(spec, run, folder, *, node_id=None, callbacks=(), cache=None):  # type: ignore[no-untyped-def]
    """Train and evaluate in the trial's own process: a job function like `ray_bridge.run_job`, without Ray Train.

    Ray Train starts six processes a trial, which take several times as long as a miniature job.
    """
    torch.set_num_threads(1)
    return Trainer(spec, run, folder, LocalSession(folder), cache).run()


def run_job_on(worker: Worker, spec: JobSpec, run: RunSpec, folder: Path) -> None:
    """Run one worker's part of a job; for `workers.on_workers`."""
    torch.set_num_threads(1)
    Trainer(spec, run, folder, LocalSession(folder, worker), folder / "cache").run()


def finish_trial(spec: JobSpec, folder: Path) -> Path:
    """Run a job in this process, and leave its folder as a campaign does after a finished trial."""
    result = run_job(spec, folder)
    write_json(folder / "spec.json", {"variant": "full", "seed": 0, "fingerprint": "0" * 16, "spec": spec.model_dump()})
    write_json(folder / "result.json", result)
    return folder


def recorded(folder: Path) -> tuple[bytes, bytes, list[Any]]:
    """Return what two runs of the same job must share: samples, selected weights and every recorded number."""
    timings = ("seconds_per_step", "tokens_per_second")
    events = [
        (e["step"], {k: v for k, v in e["values"].items() if k not in timings})
        for e in read_log(folder / "events.jsonl")
        if e["kind"] == "metrics" and "start/seconds_to_first_step" not in e["values"]
    ]
    weights = (folder / "selected" / "translator.safetensors").read_bytes()
    return (folder / "samples.jsonl").read_bytes(), weights, events
