"""Run the phase-1 job with a real public model on both sides; report step times, answers, and the fast paths in use.

    make real && python -m benchmarks.real_pair --data DIR [--steps 400] [--test 400] [--dtype bfloat16]

DIR holds GSM8K's train.jsonl and test.jsonl. Real weights have what random ones lack: massive activations, several
end-of-text tokens, answers of realistic length. `--eager` runs the layers eagerly, for comparison.
"""

import argparse
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from unittest import mock

import torch

from benchmarks.harness import default_device, peak_gib, save
from bridge_common.files import read_log
from ray_bridge.config.presets import paper
from ray_bridge.config.run_spec import RunSpec
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.gpu.settings import configure_torch
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer

REAL_MODEL = Path(__file__).parents[1] / ".real" / "SmolLM2-135M-Instruct"


def job_spec(options: argparse.Namespace) -> JobSpec:
    """Return the job: the paper's settings with the model on both sides, scaled to its size."""
    return paper(
        source=str(options.model),
        target=str(options.model),
        source_layer=20,
        model_dtype=options.dtype,
        task_data=str(options.data),
        soft_position="before_question",
        train_examples=min(7000, 8 * options.steps),
        validation_examples=options.validation,
        test_examples=options.test,
        hidden_size=512,
        depth=4,
        num_heads=8,
        steps=options.steps,
        warmup_steps=max(1, options.steps // 20),
        eval_every=max(1, options.steps // 4),
        learning_rate=3e-4,
    )


def main() -> int:
    """Run the job once and save its step times, memory, and the metrics of its answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=REAL_MODEL)
    parser.add_argument("--data", type=Path, required=True, help="folder with GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--validation", type=int, default=64)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--eager", action="store_true", help="leave the frozen models' layers eager")
    options = parser.parse_args()
    device = default_device()
    configure_torch(device)
    run = RunSpec(workers=1, cpus_per_worker=4, checkpoint_every=options.steps)
    torch.set_num_threads(int(run.cpus_per_worker))  # as in a job: with one for each core small copies wait for threads
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "trial"
        with mock.patch.object(FrozenLM, "fuse", lambda lm, _texts: lm) if options.eager else nullcontext():
            trainer = Trainer(
                job_spec(options),
                run,
                folder,
                LocalSession(folder, Worker(device=device)),
                Path(name) / "cache",
            )
        result = trainer.run()
        wall = time.perf_counter() - begin
        events = [event for event in read_log(folder / "events.jsonl") if event["kind"] == "metrics"]
    values = [event["values"] for event in events]
    steps = [v["seconds_per_step"] for v in values if "seconds_per_step" in v and "loss/rloo" not in v]
    decode_steps = [v["seconds_per_step"] for v in values if "seconds_per_step" in v and "loss/rloo" in v]
    metrics = result["metrics"]
    shown = ("accuracy/", "tokens/", "truncated/")
    summary = {
        "steps": options.steps,
        "items": [options.validation, options.test],
        "dtype": options.dtype,
        "fast_paths": trainer.pair.fast_paths(),
        "start_s": {k: v for row in values for k, v in row.items() if k.startswith("start/")},
        "step_ms": round(1e3 * median(steps[len(steps) // 3 :]), 1),
        "decode_aware_step_ms": [round(1e3 * s) for s in decode_steps],
        "total_s": round(wall, 1),
        "peak_gib": peak_gib(device),
        "metrics": {k: v for k, v in metrics.items() if k.startswith(shown) and k.count("/") == 1},
    }
    print(summary)
    save(f"real-pair-{options.dtype}{'-eager' if options.eager else ''}", summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
