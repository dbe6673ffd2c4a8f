"""Measure a target spread over GPUs: seconds to load, training step, decode step, evaluation, peak memory of each GPU.

    python -m benchmarks.sharded_target                                   a minute on a CPU: two processes, gloo, tiny
    python -m benchmarks.sharded_target --geometry 32b --shards 2         32B Llama-like target, 7B source, two GPUs
    python -m benchmarks.sharded_target --geometry 70b --shards 4         Llama-3.1-70B's geometry, four GPUs

Weights are random. It starts its processes itself, or runs in those of torchrun. Every part is written to the result
file as soon as it is done, so a part that hangs or fails costs only itself and what comes after it; parts that capture
collectives in CUDA graphs come last. `seconds to load` is of a checkpoint with `--disk-layers` layers, since a whole
one would fill the disk: once from the disk and once from the node's page cache.
"""

import argparse
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

from benchmarks.answer_lengths import full_length_answers
from benchmarks.decoding import step_time
from benchmarks.harness import ceilings, clock, results_folder, save
from benchmarks.random_models import LENGTHS, Rig, bench_spec, random_lm, rows_of
from benchmarks.sharded_models import (
    GEOMETRIES,
    difference,
    logits_and_gradient,
    make_part,
    sharded_lm,
    timed_load,
    write_checkpoint,
)
from benchmarks.train_step import make_trainer, record_losses
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.generation.verify import judge_decoding
from ray_bridge.gpu.settings import configure_torch
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.gradient_accuracy import judge_gradients
from ray_bridge.models.sharding.group import ShardGroup
from ray_bridge.models.sharding.layers import local_bytes, shard_model
from ray_bridge.training.trainer import Trainer

PATIENCE = timedelta(seconds=180)
"""A collective that takes longer ends the benchmark."""


class ShardedRig(Rig):
    """A whole random source and this process's part of a random target."""

    def __init__(self, geometry: str, device: torch.device, group: ShardGroup) -> None:
        self.size, self.device = "tiny" if geometry == "tiny" else "paper", device
        source = (
            FrozenLM.load("embedded:source", dtype="float32", device=device)
            if geometry == "tiny"
            else random_lm("source", device)
        )
        self.models = {"source": source, "target": sharded_lm(geometry, device, group)}


class Bench:
    """The measurements of one process, which all processes make together and in the same order."""

    def __init__(self, worker: Worker, options: argparse.Namespace) -> None:
        self.worker, self.options, self.device = worker, options, worker.device
        self.tiny = options.geometry == "tiny"
        self.group = ShardGroup.of(worker)
        assert self.group is not None
        self.limits = {"copy_bytes_per_s": 4.29e12, "matmul_flop_per_s": 779e12}
        self.result: dict[str, Any] = {
            "geometry": GEOMETRIES[options.geometry],
            "shards": options.shards,
            "processes": worker.world,
            "parts": {},
        }

    def run(self) -> None:
        """Make all measurements that were asked for, and stop at the first that fails."""
        parts: list[tuple[str, Callable[[], Any]]] = [
            ("ceilings", self.ceilings),
            ("all-reduce", self.all_reduce),
            ("equality", self.equality),
            ("load", self.load),
            ("models", self.models),
            ("train before_question launched", lambda: self.train("before_question", graphed=False)),
            ("train first launched", lambda: self.train("first", graphed=False)),
            ("decode kernels", lambda: self.decode("kernels")),
            ("decode eager", lambda: self.decode("eager")),
            ("decode graphed", lambda: self.decode("graphed")),
            ("evaluate before_question", lambda: self.evaluate("before_question")),
            ("evaluate first", lambda: self.evaluate("first")),
            ("decode-aware step", self.decode_aware),
            ("train before_question", lambda: self.train("before_question")),
            ("train first", lambda: self.train("first")),
        ]
        for name, measure in parts:
            if self.options.only and name not in (*self.options.only, "ceilings", "models"):
                continue
            if not self._part(name, measure):
                return

    def _part(self, name: str, measure: Callable[[], Any]) -> bool:
        """Measure one part and write all parts so far; return whether the next can be measured."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        begin, found, failed = time.perf_counter(), None, ""
        try:
            found = measure()
        except Exception as error:  # of any kind: the parts before it are worth keeping
            failed = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        seconds = time.perf_counter() - begin
        if failed:
            self._write(name, {"failed": failed, "rank": self.worker.rank})
            return False
        peaks = self.worker.gather(self._peak())
        self._write(name, {"peak_gib_by_gpu": peaks, "part_seconds": round(seconds, 1), "found": found})
        return True

    def _peak(self) -> list[float] | None:
        if self.device.type != "cuda":
            return None
        sizes = (torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device))
        return [round(size / 2**30, 2) for size in sizes]

    def _write(self, name: str, found: dict[str, Any]) -> None:
        self.result["parts"][name] = found
        if self.worker.first or "failed" in found:
            print(name, found, flush=True)
        if self.worker.first:
            kind = "cpu" if self.device.type == "cpu" else torch.cuda.get_device_name(self.device).split()[1].lower()
            kind = f"{kind}-x{self.worker.world}"
            save(f"sharded-target-{self.options.geometry}-{kind}", self.result, results_folder())

    def ceilings(self) -> dict[str, float]:
        """Measure copies and products of one device."""
        self.limits = ceilings(self.device)
        return self.limits

    def all_reduce(self) -> dict[str, float]:
        """Time the sum over the group of a decode step's and a training step's states, in microseconds."""
        width = int(GEOMETRIES[self.options.geometry]["hidden_size"])
        assert self.group is not None
        found = {}
        for rows in (1, 50, 670, 3200):
            x = torch.zeros(rows, width, dtype=torch.bfloat16 if not self.tiny else torch.float32, device=self.device)
            for _ in range(5):
                self.group.all_reduce(x)
            begin = clock(self.device)
            for _ in range(20):
                self.group.all_reduce(x)
            found[f"{rows} x {width}"] = round((clock(self.device) - begin) / 20 * 1e6, 1)
        return found

    def equality(self) -> dict[str, Any]:
        """Compare a small model in parts with the whole one: logits, gradient to Z, and its bits on all processes."""
        found = {}
        assert self.group is not None
        for dtype in ("float32", "bfloat16"):
            lms = []
            for group in (None, self.group):
                model = make_part("tiny" if self.tiny else "8b", self.device, None, getattr(torch, dtype), layers=4)
                model = model if group is None else shard_model(model, "target", group)
                lm = FrozenLM(model, self._tokenizer(), "target", group)
                lms.append(lm.fuse() if self.device.type == "cuda" else lm)
            whole, part = (logits_and_gradient(lm) for lm in lms)
            everyone = self.worker.gather([x.cpu() for x in part])
            found[dtype] = {
                "logits": difference(part[0], whole[0]),
                "gradient": difference(part[1], whole[1]),
                "same bits on all": all(
                    torch.equal(a, b.cpu())
                    for other in everyone
                    for a, b in zip(other, part, strict=True)  # type: ignore[call-overload]
                ),
                "fused": [lm.body is not None for lm in lms],
            }
        return found

    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        from ray_bridge.config.checkpoint_names import resolve

        return AutoTokenizer.from_pretrained(resolve("embedded:target"))

    def load(self) -> dict[str, Any]:
        """Write a random checkpoint with some of the layers, and load each process's part of it."""
        assert self.group is not None
        layers = min(self.options.disk_layers, int(GEOMETRIES[self.options.geometry]["num_hidden_layers"]))
        folder = self.worker.gather(tempfile.mkdtemp(dir=self.options.disk) if self.worker.first else None)[0]
        place = Path(str(folder))
        try:
            seconds = write_checkpoint(self.options.geometry, place, layers, self.worker)
            self.worker.barrier()
            found = timed_load(place, self.worker, self.group, "float32" if self.tiny else "bfloat16")
        finally:
            self.worker.barrier()
            if self.worker.first:
                for path in place.iterdir():
                    path.unlink()
                place.rmdir()
        whole = int(GEOMETRIES[self.options.geometry]["num_hidden_layers"])
        return found | {"layers": layers, "of_layers": whole, "seconds_to_write": round(seconds, 1)}

    def models(self) -> dict[str, Any]:
        """Make both models on the device, and judge the target's fused layers."""
        begin = clock(self.device)
        assert self.group is not None
        self.rig = ShardedRig(self.options.geometry, self.device, self.group)
        seconds = clock(self.device) - begin
        target = self.rig.models["target"]
        verdicts = {
            "states": target.fused,
            "gradients": judge_gradients(target),
            "decode steps": judge_decoding(target),
        }
        return {
            "seconds": round(seconds, 1),
            "error_over_eager": {name: verdict and round(verdict.ratio, 3) for name, verdict in verdicts.items()},
            "fused": {side: lm.body is not None for side, lm in self.rig.models.items()},
            "weights_gib": {side: round(local_bytes(lm.model) / 2**30, 2) for side, lm in self.rig.models.items()},
        }

    def _trainer(self, folder: str, position: str, **changes: Any) -> Trainer:
        groups = self.worker.world // self.options.shards
        values: dict[str, Any] = {
            "soft_position": position,
            "batch_size": 2 * groups,
            "steps": 10_000,
            "eval_every": 5000,
            "train_examples": 64,
            "validation_examples": 16,
            "target_shards": self.options.shards,
        }
        spec = bench_spec(self.rig.size, **(values | changes))
        shared = self.worker.gather(folder)[0]  # one cache for all processes
        return make_trainer(self.rig, spec, Path(folder), self.worker, cache=Path(str(shared)) / "cache")

    def train(self, position: str, *, graphed: bool = True) -> dict[str, Any]:
        """Time training steps of two rows a group, with the states of source and teacher cached."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = self._trainer(folder, position)
            if not graphed:
                for name in ("student", "teacher"):  # the target's passes
                    trainer.passes.graphs[name].max_graphs = 0
            begin = clock(self.device)
            trainer.prepare()
            prepared = clock(self.device) - begin
            steps = 6 if self.tiny else 2 * self.options.steps  # in the first half each shape is captured
            losses = record_losses(trainer)
            spent = [self._step(trainer) for _ in range(steps)]
            trainer._read_steps()
            calls = trainer.passes.graphs
            graphs = {name: {"captured": len(x.graphs), "launched": x.eager_calls} for name, x in calls.items()}
            trainer.passes.release()
            self.worker.barrier()
        spent = sorted(spent[len(spent) // 2 :])
        lengths, target = LENGTHS[self.rig.size], self.rig.models["target"]
        tokens = 2 * (lengths.question + lengths.answer + trainer.spec.soft_tokens)
        tokens += 2 * lengths.header if position == "first" else 0
        weights = sum(p.numel() for p in target.layers[0].parameters() if p.dim() == 2) * target.num_layers
        return {
            "step_ms": round(1e3 * spent[len(spent) // 2], 1),
            "fastest_ms": round(1e3 * spent[0], 1),
            "slowest_ms": round(1e3 * spent[-1], 1),
            "floor_ms": round(1e3 * 4.0 * weights * tokens / self.limits["matmul_flop_per_s"], 1),
            "recompute_above": trainer.passes.recompute_above,
            "graphs": graphs,
            "losses": losses[-3:],
            "prepare_seconds": round(prepared, 1),
        }

    def _step(self, trainer: Trainer) -> float:
        begin = clock(self.device)
        trainer._train_step()
        return clock(self.device) - begin

    def decode_aware(self) -> dict[str, Any]:
        """Time steps that also sample and score completions."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = self._trainer(folder, "before_question", decode_aware=True, eval_every=1)
            trainer.prepare()
            with full_length_answers(self.rig):
                spent = [self._step(trainer) for _ in range(2)]
            self.worker.barrier()
        return {"seconds": [round(s, 2) for s in spent], "completions": 16}

    def decode(self, way: str) -> dict[str, Any]:
        """Time a token step of rows after a shared header, as in an evaluation of 50 rows."""
        target = self.rig.models["target"]
        header, rows = (1330, 50) if not self.tiny else (40, 4)
        lengths = {} if not self.tiny else {"few": 3, "many": 8}
        if way == "eager":
            lengths = {"few": 3, "many": 9}
        prompts = rows_of(target, rows, header + (120 if not self.tiny else 20), header=header)
        with torch.no_grad():
            if way != "kernels":
                return step_time(target, prompts, way, self.limits, **lengths)
            return _without_capture(lambda: step_time(target, prompts, "graphed", self.limits, **lengths))

    def evaluate(self, position: str) -> dict[str, Any]:
        """Time an evaluation of the bridged condition on `--items` items, scored and gathered."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = self._trainer(folder, position)
            evaluator = Evaluator(trainer.pair, self.worker, 1000, NodeCache(None))
            examples = trainer.splits.test[: 8 if self.tiny else self.options.items]
            trainer.pair.encoder(examples)
            self.worker.barrier()
            begin = clock(self.device)
            with full_length_answers(self.rig):
                samples = evaluator.evaluate(examples, trainer.translator.eval(), ["bridged"])
            self.worker.barrier()
            spent = clock(self.device) - begin
        return {
            "items": len(samples),
            "new_tokens": trainer.spec.max_new_tokens,
            "seconds": round(spent, 2),
            "tokens_per_s": round(sum(row["bridged_tokens"] for row in samples) / spent),
            "batches": evaluator.statistics.batches,
            "captured": evaluator.statistics.captured,
            "uncapturable": list(evaluator.statistics.uncapturable.values()),
            "cache": evaluator.statistics.cache,
        }


def _without_capture(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Decode with the fixed cache and its kernels, but launch every step from Python."""
    from ray_bridge.generation.graphed_batch import GraphedBatch

    capture = GraphedBatch._capture
    GraphedBatch._capture = lambda _self: None  # type: ignore[method-assign]
    try:
        return measure() | {"way": "kernels without graphs"}
    finally:
        GraphedBatch._capture = capture  # type: ignore[method-assign]


def work(rank: int, world: int, meeting: str, options: argparse.Namespace) -> None:
    """Measure in one process."""
    device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
        configure_torch(device)
    else:
        torch.set_num_threads(1)
    backend = "nccl" if device.type == "cuda" else "gloo"
    kwargs: dict[str, Any] = {"device_id": device} if device.type == "cuda" else {}
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=world, timeout=PATIENCE, **kwargs)
    Bench(Worker(rank=rank, world=world, device=device, shards=options.shards), options).run()
    if device.type == "cpu":
        dist.destroy_process_group()
        return
    os._exit(0)  # where a process has failed in a collective, others still wait in it


def main() -> None:
    """Start the processes, unless torchrun has, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--geometry", choices=tuple(GEOMETRIES), default="tiny")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--processes", type=int, default=None, help="a multiple of --shards; by default as many")
    parser.add_argument("--items", type=int, default=200, help="items of an evaluation")
    parser.add_argument("--steps", type=int, default=16, help="training steps, of which the later half is measured")
    parser.add_argument("--disk", default=None, help="folder for a temporary checkpoint; by default the system's")
    parser.add_argument("--disk-layers", type=int, default=8, help="layers of that checkpoint")
    parser.add_argument("--only", nargs="*", default=[], help="names of the parts to measure; by default all")
    options = parser.parse_args()
    options.processes = options.processes or options.shards
    if "RANK" in os.environ:
        work(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), "env://", options)
        return
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(
            work, (options.processes, f"file://{folder}/meet", options), nprocs=options.processes
        )


if __name__ == "__main__":
    main()
