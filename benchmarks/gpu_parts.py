"""The parts of gpu_check: equality at full geometry, the cost of each path, and the job's own loop on all GPUs."""

import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.bias import causal_lower_right

from benchmarks.answer_lengths import full_length_answers
from benchmarks.decoding import decode_by, step_time
from benchmarks.harness import ceilings, clock, peak_gib, timed
from benchmarks.massive_activations import massive_activations
from benchmarks.random_models import Rig, bench_spec, rows_of
from benchmarks.train_step import make_trainer, measure, use_way
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.generation import kv_caches
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.gpu.kernels import adaptive_norm, decode_step, fused_layer, prefix_attention
from ray_bridge.inputs.layout import answer_row, assemble, common_prefix
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.synthetic.task import SyntheticTask

Piece = tuple[str, float, Callable[[], Any]]
"""A part's name, its limit in seconds, and the function that measures it."""


class Bench:
    """The measurements that one process makes."""

    def __init__(self, size: str, device: torch.device) -> None:
        self.size, self.device = size, device
        self.limits: dict[str, float] = {"copy_bytes_per_s": 4.29e12, "matmul_flop_per_s": 779e12}
        self.paper = size == "paper"

    def ceilings(self) -> dict[str, float]:
        """Measure what the device can do, for the floors of the other parts."""
        self.limits = ceilings(self.device)
        return self.limits

    def load(self) -> dict[str, Any]:
        """Make both models on the device; return whether their layers are fused."""
        begin = time.time()
        self.rig = Rig(self.size, self.device)
        for lm in self.rig.models.values():
            if lm.body is None:
                lm.fuse()
        fused = {side: lm.body is not None for side, lm in self.rig.models.items()}
        return {"seconds": round(time.time() - begin, 1), "fused": fused, "gib": peak_gib(self.device)}

    def own_parts(self, rank: int, world: int) -> list[Piece]:
        """Return the parts of one process by its rank; fewer processes get more parts each."""
        n, long, header = (50, 1264, 1330) if self.paper else (4, 100, 80)
        decode: list[Piece] = [
            ("kernels", 60, self.kernels),
            ("attention", 100, self.attention),
            ("decode graphed", 40, lambda: self.decode("graphed", n, long)),
            ("decode header cached", 30, lambda: self.decode("graphed", n, header + 120, header)),
            ("decode torch", 30, lambda: self.decode("torch", n, long)),
            ("decode many rows", 40, lambda: self.decode("graphed", 3 * n, long + 250)),
            ("decode transformers", 40, lambda: self.decode("transformers", n, long)),
            ("decode sampled", 30, lambda: self.decode("sampled", n, long)),
            ("decode torch header", 30, lambda: self.decode("torch", n, header + 120, header)),
        ]
        train: list[Piece] = [
            (f"train {way}", 40, lambda way=way: measure(self.rig, way, self.limits, Worker(device=self.device)))  # type: ignore[misc]
            for way in (
                "first",
                "before_question",
                "first without graphs",
                "before_question without graphs",
                "before_question unfused",
                "first unfused",
            )
        ]
        equal: list[Piece] = [
            ("equality", 80, self.equality),
            ("equality massive", 80, self.equality_massive),
            ("decode aware K=512", 60, self.decode_aware),
        ]
        other: list[Piece] = [
            ("same text", 60, self.same_text),
            ("profile before_question", 50, lambda: self.profile_step("before_question")),
            ("profile first", 40, lambda: self.profile_step("first")),
            ("profile decode", 40, self.profile_decode),
            ("decode eager", 60, lambda: self.decode("eager", n, long, few=2, many=7)),
        ]
        everything = [decode, train, equal, other]
        return [piece for i, part in enumerate(everything) if i % world == rank for piece in part]

    def joint_parts(self, rank: int, world: int) -> list[Piece]:
        """Return the parts that all processes run together, in the same order."""
        worker = Worker(rank=rank, world=world, device=self.device)
        few, all_items = (200, 1319) if self.paper else (8, 12)
        if world == 1:  # one GPU does the share of one in four
            few, all_items = -(-few // 4), -(-all_items // 4)

        def train(way: str) -> Callable[[], Any]:
            return lambda: measure(self.rig, way, self.limits, worker)

        def evaluate(position: str, count: int) -> Callable[[], Any]:
            return lambda: self.evaluate(worker, position, count)

        return [
            ("data parallel before_question", 40, train("before_question")),
            ("evaluate before_question", 40, evaluate("before_question", few)),
            ("data parallel first", 40, train("first")),
            ("evaluate first", 40, evaluate("first", few)),
            ("gate before_question", 50, evaluate("before_question", all_items)),
            ("gate first", 70, evaluate("first", all_items)),
        ]

    def decode(self, way: str, rows: int, length: int, header: int = 0, **tokens: int) -> dict[str, Any]:
        """Time one way to decode."""
        target = self.rig.models["target"]
        if not self.paper:
            tokens = {"few": 3, "many": 8}
        return step_time(target, rows_of(target, rows, length, header=header), way, self.limits, **tokens)

    def kernels(self) -> Any:
        """Compare the kernels with PyTorch at the target's geometry; return their largest errors."""
        body = self.rig.models["target"].body
        if self.device.type != "cuda" or body is None:
            return "kernels need a GPU"
        geometry = (self.device, torch.bfloat16, body.heads, body.kv_heads, body.head_dim)
        return {
            "decode": decode_step.max_error(*geometry),
            "layer": fused_layer.max_error(*geometry),
            "prefix attention": prefix_attention.max_error(*geometry),
            "adaptive norm": adaptive_norm.max_error(*geometry),
        }

    def attention(self) -> Any:
        """Time 32 layers' attention in milliseconds, forward and with the backward pass, in PyTorch and by kernels."""
        if self.device.type != "cuda":
            return "kernels need a GPU"
        results: dict[str, Any] = {}
        for T, H in ((352, 1330), (288, 1330), (1664, 0)):
            draw = [
                torch.randn(2, n, h, 128, device=self.device).bfloat16() for n, h in ((T, 32), (H + T, 8), (H + T, 8))
            ]
            q, k, v = (x.requires_grad_() for x in draw)

            def flash() -> Tensor:
                mask = causal_lower_right(T, H + T)  # noqa: B023
                heads_first = (x.transpose(1, 2) for x in (q, k, v))  # noqa: B023
                return F.scaled_dot_product_attention(*heads_first, attn_mask=mask, enable_gqa=True).transpose(1, 2)

            def kernels() -> Tensor:
                return prefix_attention.attend_after_prefix(q, k, v, 128**-0.5)  # noqa: B023

            blocks: list[Any] = [
                None,
                *(
                    {"BM": m, "BN": n, "num_warps": w, "num_stages": s}
                    for m, n, w, s in (
                        (128, 64, 8, 2),
                        (128, 128, 8, 2),
                        (64, 32, 4, 2),
                        (64, 32, 4, 3),
                        (64, 64, 4, 3),
                        (64, 128, 4, 2),
                        (64, 64, 4, 2),
                    )
                ),
            ]
            for block in blocks:
                for kernel in ("FORWARD", "QUERIES", "KEYS") if block else ("",):
                    defaults = {name: dict(getattr(prefix_attention, name)) for name in ("FORWARD", "QUERIES", "KEYS")}
                    if kernel:
                        getattr(prefix_attention, kernel).update(block)
                    ways = (("torch", flash), ("kernels", kernels)) if not block else (("kernels", kernels),)
                    for name, way in ways:
                        label = f"{T}+{H} {name} {kernel} {list(block.values()) if block else ''}"
                        try:
                            results[label] = self._forward_and_backward(way, (q, k, v))
                        except Exception as error:
                            results[label] = f"{type(error).__name__}: {error}"[:100]
                    for name, values in defaults.items():
                        getattr(prefix_attention, name).update(values)
        return results

    def _forward_and_backward(self, way: Callable[[], Tensor], inputs: tuple[Tensor, ...]) -> list[float]:
        grad_output = torch.randn_like(way())
        graphs = []
        for both in (False, True):
            graph = torch.cuda.CUDAGraph()
            with torch.enable_grad():
                for _ in range(2):
                    torch.autograd.grad(way(), inputs, grad_output)
                with torch.cuda.graph(graph):
                    for _ in range(8):
                        y = way()
                        if both:
                            torch.autograd.grad(y, inputs, grad_output)
            graphs.append(graph)
        return [round(4e3 * timed(graph.replay, self.device, repeats=7), 3) for graph in graphs]

    def same_text(self) -> dict[str, Any]:
        """Count for each way the prompts whose text equals that of eager decoding, with the embedded target."""
        results: dict[str, Any] = {}
        task = SyntheticTask(train_examples=20, test_examples=48 if self.paper else 8)
        for dtype in ("float32", "bfloat16"):
            lm = FrozenLM.load("embedded:target", dtype=dtype, device=self.device)
            lm = lm if lm.body is not None else lm.fuse()
            header = task.header(task.train()[:3])
            rows = [answer_row(lm, header, task.prompt(e), None, soft_after_header=True) for e in task.test()]
            statistics = DecodingStatistics()
            for way in ("graphed", "torch", "transformers", "sampled"):
                texts = decode_by(lm, rows, 64, way, statistics)
                eager = decode_by(lm, rows, 64, "eager sampled" if way == "sampled" else "eager", statistics)
                results[f"{dtype} {way}"] = f"{sum(a == b for a, b in zip(texts, eager, strict=True))} of {len(rows)}"
            results[f"{dtype} captured"] = statistics.captured
        return results

    @torch.no_grad()
    def equality(self) -> dict[str, Any]:
        """Compare the relative error of each way's logits against fp32 with that of transformers' own layers in bf16.

        A fast way is right if its error is that of rounding, which is all of the eager way's error.
        """
        target = self.rig.models["target"]
        header, length, new = (400, 500, 8) if self.paper else (60, 80, 4)
        rows = rows_of(target, 3, length, header=header)
        rows = [
            Row(before=r.before, prompt=r.prompt[: len(r.prompt) - 9 * i], header=header) for i, r in enumerate(rows)
        ]
        follow = torch.randint(10, 900, (3, new), generator=torch.Generator().manual_seed(1)).to(self.device)  # (3, n)
        whole = [Row(before=r.before, prompt=(*r.prompt, *follow[i].tolist())) for i, r in enumerate(rows)]
        predicting = [
            torch.arange(len(r.before) + len(r.prompt) - 1, len(r.before) + len(r.prompt) + new) for r in rows
        ]

        def full(lm: Any) -> Tensor:
            batch = assemble(lm, whole, None, pad="right")
            hidden = lm.hidden(batch.embeds, batch.mask, batch.positions)
            return torch.stack([lm.logits(hidden[i, where]) for i, where in enumerate(predicting)])  # (3, n + 1, V)

        def after_header(lm: Any) -> Tensor:
            prefix = common_prefix(lm, rows, soft=False)
            batch = assemble(
                lm,
                [Row(before=w.before, prompt=w.prompt, header=header) for w in whole],
                None,
                pad="right",
                prefix=prefix,
            )
            hidden = lm.hidden(batch.embeds, batch.mask, batch.positions, prefix=prefix, right_padded=True)
            return torch.stack([lm.logits(hidden[i, where - header]) for i, where in enumerate(predicting)])

        def stepped(cache_class: Any, shared: bool, use_kernels: bool) -> Callable[[Any], Tensor]:
            def logits_of(lm: Any) -> Tensor:
                prefix = common_prefix(lm, rows, soft=False) if shared else None
                past = header if shared else 0
                cache = cache_class(lm, 3, length - past, new, prefix)
                if hasattr(cache, "kernels"):
                    cache.kernels = cache.kernels and use_kernels
                logits = [lm.logits(cache.fill(slice(3), assemble(lm, rows, None, pad=cache.pad, prefix=prefix)))]
                logits += [lm.logits(cache.step(lm.embed(follow[:, i])[:, None])) for i in range(new)]
                return torch.stack(logits, 1)  # (3, n + 1, V)

            return logits_of

        fused, own = kv_caches.FusedCache, kv_caches.TransformersCache
        ways: dict[str, Callable[[Any], Tensor]] = {
            "fused": full,
            "fused header": after_header,
            "step kernels": stepped(fused, False, True),
            "step kernels header": stepped(fused, True, True),
            "step torch": stepped(fused, False, False),
            "step torch header": stepped(fused, True, False),
        }
        results = {name: way(target).cpu() for name, way in ways.items()}
        body, target.body = target.body, None
        try:
            results["eager"] = full(target).cpu()
            results["eager header"] = after_header(target).cpu()
            results["step transformers"] = stepped(own, False, False)(target).cpu()
            kept = target.model
            target._prefixes.clear()
            target.model = copy.deepcopy(kept).float()
            target.embedding, target.head = target.model.get_input_embeddings(), target.model.get_output_embeddings()
            try:
                truth = full(target).cpu()
            finally:
                target.model = kept
                target.embedding, target.head = kept.get_input_embeddings(), kept.get_output_embeddings()
        finally:
            target.body = body
            target._prefixes.clear()
        errors = {name: float((x - truth).norm() / truth.norm()) for name, x in results.items()}
        allowed = 1.5 * errors["eager"] + 1e-5
        wrong = [name for name, error in errors.items() if not error <= allowed]
        return {"equal": not wrong, "wrong": wrong, "errors": {k: round(v, 7) for k, v in errors.items()}}

    def equality_massive(self) -> dict[str, Any]:
        """Make the comparison of `equality` with massive activations, which the target has for its time alone."""
        with massive_activations(self.rig.models["target"]):
            return self.equality()

    def decode_aware(self) -> dict[str, Any]:
        """Measure time and peak memory of a decode-aware step with many soft tokens and the header in every row."""
        few = {"soft_tokens": 512} if self.paper else {}
        with tempfile.TemporaryDirectory() as name:
            spec = bench_spec(
                self.size, decode_aware=True, batch_size=2, eval_every=1, steps=100, decode_questions=1, **few
            )
            trainer = make_trainer(self.rig, spec, Path(name), Worker(device=self.device))
            begin = clock(self.device)
            trainer._train_step()
            return {"seconds": round(clock(self.device) - begin, 2), "peak_gib": peak_gib(self.device)}

    def evaluate(self, worker: Worker, position: str, count: int) -> dict[str, Any]:
        """Time an evaluation of the bridged condition on `count` items over all processes, scored and gathered."""
        with tempfile.TemporaryDirectory() as name:
            spec = bench_spec(self.size, soft_position=position)
            trainer = make_trainer(self.rig, spec, Path(name), worker)
            evaluator = Evaluator(trainer.pair, worker, 1000, NodeCache(None))
            examples = trainer.splits.test[:count]
            trainer.pair.encoder(examples)
            worker.barrier()
            begin = clock(self.device)
            with full_length_answers(self.rig):
                samples = evaluator.evaluate(examples, trainer.translator.eval(), ["bridged"])
            worker.barrier()
            spent = clock(self.device) - begin
        tokens = sum(row["bridged_tokens"] for row in samples)
        return {
            "items": len(samples),
            "new_tokens": trainer.spec.max_new_tokens,
            "workers": worker.world,
            "seconds": round(spent, 2),
            "tokens_per_s": round(tokens / spent),
            "batches": evaluator.statistics.batches,
            "cache": evaluator.statistics.cache,
            "peak_gib": peak_gib(self.device),
        }

    def profile_step(self, way: str) -> dict[str, Any]:
        """Profile a training step: launches, time on the device, and the kernels that take most of it."""
        with use_way(self.rig, way) as position, tempfile.TemporaryDirectory() as name:
            spec = bench_spec(self.size, soft_position=position, batch_size=2, steps=10_000, eval_every=5000)
            trainer = make_trainer(self.rig, spec, Path(name), Worker(device=self.device))
            trainer.prepare()
            for _ in range(12):
                trainer._train_step()
            return self._profile(trainer._train_step)

    def profile_decode(self) -> dict[str, Any]:
        """Profile a decode step, not captured, so that its kernels have names."""
        target = self.rig.models["target"]
        n, length = (50, 1264) if self.paper else (4, 60)
        rows = rows_of(target, n, length)
        cache = kv_caches.FusedCache(target, n, length, 32, None)
        with torch.no_grad():
            for first in range(0, n, 10):
                cache.fill(slice(first, first + 10), assemble(target, rows[first : first + 10], None, pad="right"))
            token = torch.full((n, 1), 20, device=self.device)
            cache.step(target.embed(token))
            return self._profile(lambda: target.logits(cache.step(target.embed(token))))

    def _profile(self, action: Callable[[], Any]) -> dict[str, Any]:
        from torch.profiler import ProfilerActivity, profile

        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if self.device.type == "cuda" else [])
        with profile(activities=activities) as record:
            begin = clock(self.device)
            action()
            spent = clock(self.device) - begin
        rows = [e for e in record.key_averages() if getattr(e, "self_device_time_total", 0) > 0]
        rows.sort(key=lambda e: -e.self_device_time_total)
        kernels_only = [e for e in rows if str(e.device_type).endswith("CUDA")] or rows
        return {
            "wall_ms_profiled": round(1e3 * spent, 2),
            "device_ms": round(sum(e.self_device_time_total for e in kernels_only) / 1e3, 2),
            "launches": sum(e.count for e in kernels_only),
            "top": [[e.key[:110], e.count, round(e.self_device_time_total / 1e3, 2)] for e in kernels_only[:32]],
        }
