"""Compare a frozen target of 8 bits with the same in bf16: memory, passes, decode steps, and what rounding costs.

    make real && python -m benchmarks.int8_target --model .real/SmolLM2-135M-Instruct [--data DIR]
    python -m benchmarks.int8_target --geometry 8b        random weights in Llama-3.1-8B's geometry, on a GPU
    python -m benchmarks.int8_target --geometry tiny --rows 2 --length 64 --few 5 --many 9        seconds on a CPU

A pass is the target's forward and backward pass from the loss on each row's last quarter to soft tokens in its first
eighth. `full` runs as in a job, with fused layers, launched and as a CUDA graph; `full unfused` runs transformers'
layers, as `int8` does. Errors are those of last states, token by token, beside fp32 with the same weights. DIR holds
GSM8K's train.jsonl and test.jsonl; without it the text is that of the README.
"""

import argparse
import copy
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.decoding import step_time
from benchmarks.harness import ceilings, default_device, environment, peak_gib, save, timed
from benchmarks.random_models import matmul_flops, rows_of
from benchmarks.sharded_models import GEOMETRIES, make_part
from ray_bridge.config.checkpoint_names import resolve
from ray_bridge.config.presets import paper
from ray_bridge.gpu.cuda_graphs import GraphedCalls
from ray_bridge.models.accuracy import SHARES
from ray_bridge.models.eight_bits import held_bytes, round_layers
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.head import logits_of
from ray_bridge.tasks.splits import load_splits

WAYS = ("full", "full unfused", "int8")
README = Path(__file__).parents[1] / "README.md"


def load_target(options: argparse.Namespace, name: str, precision: Any, device: torch.device) -> FrozenLM:
    """Return a checkpoint, or a random model of a geometry, in bf16 or with layers of 8 bits."""
    if name not in GEOMETRIES:
        return FrozenLM.load(name, dtype="bfloat16", device=device, precision=precision)
    from transformers import AutoTokenizer

    model = make_part(name, device, None, torch.bfloat16, options.layers)
    if precision == "int8":
        round_layers(model.base_model.layers, device)
    lm = FrozenLM(model, AutoTokenizer.from_pretrained(resolve("embedded:target")), f"random-{name}")
    return lm.fuse() if device.type == "cuda" else lm


@contextmanager
def use_way(lm: FrozenLM, way: str) -> Iterator[None]:
    """Run the layers of a model in one of `WAYS` within the block."""
    body = lm.body
    lm.body = None if "unfused" in way else body
    try:
        yield
    finally:
        lm.body = body


def allocated(device: torch.device) -> int:
    """Return the bytes that tensors take on a GPU, 0 on a CPU."""
    gc.collect()
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


class Passes:
    """Forward and backward passes of a target to soft tokens, of rows of one length."""

    def __init__(self, lm: FrozenLM, rows: int, length: int) -> None:
        draw = torch.Generator().manual_seed(1)
        self.lm, self.soft = lm, max(1, length // 8)
        ids = torch.randint(10, len(lm.tokenizer), (rows, length), generator=draw).to(lm.device)  # (B, L)
        self.embeds = lm.embed(ids)  # (B, L, d)
        self.mask = torch.ones_like(ids)
        self.positions = self.mask.cumsum(-1) - 1  # (B, L)
        self.answers = ids[:, -(length // 4) :]  # (B, A)
        self.calls = GraphedCalls(eager_before=0)

    def hidden(self, z: Tensor, captured: bool) -> Tensor:
        """Return last states, (B, L, d), of rows that begin with z, (B, K, d)."""

        def read(inputs: Any, _parameters: Any) -> Tensor:
            return self.lm.hidden(*inputs, right_padded=True)

        inputs = (torch.cat([z, self.embeds[:, self.soft :]], 1), self.mask, self.positions)
        return self.calls("pass", read, inputs) if captured else read(inputs, ())

    def run(self, *, captured: bool = False) -> tuple[Tensor, int]:
        """Return the loss's gradient to soft tokens, and the bytes kept between the passes."""
        z = self.embeds[:, : self.soft].detach().clone().requires_grad_()  # (B, K, d)
        before = torch.cuda.memory_allocated(z.device) if z.is_cuda else 0
        hidden = self.hidden(z, captured)
        kept = (torch.cuda.memory_allocated(z.device) if z.is_cuda else 0) - before
        logits = self.lm.logits(hidden[:, -self.answers.shape[1] - 1 : -1])  # (B, A, V)
        loss = F.cross_entropy(logits.flatten(0, 1), self.answers.flatten())
        return torch.autograd.grad(loss, z)[0], kept


def time_passes(lm: FrozenLM, options: argparse.Namespace, limits: dict[str, float]) -> dict[str, Any]:
    """Time passes, launched and, of fused layers on a GPU, as a CUDA graph; return bytes kept and the peak, too."""
    passes = Passes(lm, options.rows, options.length)
    passes.run()
    if lm.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(lm.device)
    gradient, kept = passes.run()
    found = {
        "pass_ms": round(1e3 * timed(passes.run, lm.device, repeats=options.repeats), 2),
        "pass_floor_ms": round(2e3 * matmul_flops(lm, options.rows * options.length) / limits["matmul_flop_per_s"], 2),
        "pass_kept_gib": round(kept / 2**30, 3),
        "pass_peak_gib": peak_gib(lm.device),
        "gradient_norm": float(gradient.double().norm()),
    }
    if lm.device.type == "cuda" and lm.body is not None:
        seconds = timed(lambda: passes.run(captured=True), lm.device, repeats=options.repeats)
        found |= {"captured_pass_ms": round(1e3 * seconds, 2), "passes_not_captured": passes.calls.eager_calls}
    return found


def read_texts(lm: FrozenLM, options: argparse.Namespace) -> list[Tensor]:
    """Return the ids of real text, (1, T) each."""
    if options.data is None:
        ids = lm.tokenizer(README.read_text(), add_special_tokens=False)["input_ids"]
        parts = [ids[i : i + options.length] for i in range(0, len(ids), options.length)]
    else:
        splits = load_splits(paper(task_data=str(options.data)))
        texts = [splits.task.prompt(item) + splits.task.continuation(item) for item in splits.test]
        parts = [lm.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts[: options.texts]]
    return [torch.tensor([[lm.bos, *part]], device=lm.device) for part in parts[: options.texts]]


class Reference:
    """States and logits of texts in fp32, of a model in bf16 whose weights are the truth."""

    @torch.no_grad()
    def __init__(self, lm: FrozenLM, texts: list[Tensor]) -> None:
        self.texts = texts
        self.states = [lm.reference_states(ids) for ids in texts]  # (T, d) each
        self.head = copy.deepcopy(lm.head).float()

    @torch.no_grad()
    def compare(self, lm: FrozenLM) -> dict[str, Any]:
        """Return how far a model is from the reference, token by token."""
        errors, agree, divergence, losses = [], [], [], []
        for ids, exact in zip(self.texts, self.states, strict=True):
            states = lm.states(ids)  # (T, d)
            errors.append((states.float() - exact).norm(dim=-1) / exact.norm(dim=-1))
            truth = logits_of(self.head, lm.config, exact).log_softmax(-1)  # (T, V)
            mine = lm.logits(states).log_softmax(-1)  # (T, V)
            agree.append((truth.argmax(-1) == mine.argmax(-1)).float())
            divergence.append((truth.exp() * (truth - mine)).sum(-1))
            losses.append(torch.stack([-x[:-1].gather(1, ids[0, 1:, None])[:, 0] for x in (truth, mine)]))
        error, (of_truth, of_mine) = torch.cat(errors), torch.cat(losses, 1).double().mean(-1).tolist()
        shares = torch.tensor(list(SHARES), device=error.device)
        return {
            "tokens": len(error),
            "state_error": [round(x, 5) for x in error.quantile(shares).tolist()],  # at the quantiles of `SHARES`
            "same_first_token": round(float(torch.cat(agree).mean()), 5),
            "kl_nats": round(float(torch.cat(divergence).double().mean()), 6),
            "loss_nats": round(of_mine, 5),
            "loss_nats_fp32": round(of_truth, 5),
        }


def measure(name: str, options: argparse.Namespace, device: torch.device, limits: dict[str, float]) -> list[Any]:
    """Measure all ways of one target."""
    rows: list[Any] = []
    reference: Reference | None = None
    for precision in ("full", "int8"):
        before = allocated(device)
        lm = load_target(options, name, precision, device)
        taken = (allocated(device) - before) or held_bytes(lm.model)
        if name not in GEOMETRIES and reference is None:
            reference = Reference(lm, read_texts(lm, options))
        for way in (each for each in WAYS if each.startswith(precision)):
            if way == "full unfused" and lm.body is None:
                continue  # on a CPU `full` is
            with use_way(lm, way):
                row = {"target": name, "way": way, "slow_paths": lm.slow_paths()}
                row |= {"layers_gib": round(held_bytes(lm.layers) / 2**30, 4), "target_gib": round(taken / 2**30, 4)}
                row |= time_passes(lm, options, limits)
                prompts = rows_of(lm, options.rows, options.length)
                row["decode"] = step_time(lm, prompts, "graphed", limits, few=options.few, many=options.many)
                row["beside_fp32"] = None if reference is None else reference.compare(lm)
            rows.append(row)
            print(row, flush=True)
        del lm
        allocated(device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def ratios(rows: list[Any]) -> dict[str, float]:
    """Return what int8 takes of what full takes."""
    full, rounded = (next(row for row in rows if row["way"] == way) for way in ("full", "int8"))
    names = [n for n in ("layers_gib", "target_gib", "pass_ms", "pass_peak_gib") if full[n]]
    found = {name: round(rounded[name] / full[name], 3) for name in names}
    if "captured_pass_ms" in full:
        found["pass_ms_to_captured"] = round(rounded["pass_ms"] / full["captured_pass_ms"], 3)
    return found | {"decode_step_ms": round(rounded["decode"]["step_ms"] / full["decode"]["step_ms"], 3)}


def main() -> int:
    """Measure all targets and save the results after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="folder or name of a real checkpoint")
    parser.add_argument("--geometry", choices=tuple(GEOMETRIES), default=None, help="of a target with random weights")
    parser.add_argument("--layers", type=int, default=None, help="of that target; by default all")
    parser.add_argument("--device", default=None, help="by default the first GPU, or the CPU")
    parser.add_argument("--data", type=Path, default=None, help="folder with GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--texts", type=int, default=32, help="real texts on which errors are measured")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=512, help="positions of a row, and of a prompt")
    parser.add_argument("--few", type=int, default=17, help="new tokens of a short answer")
    parser.add_argument("--many", type=int, default=97, help="new tokens of a long answer")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    targets = [name for name in (options.model, options.geometry) if name is not None]
    if not targets:
        parser.error("give --model, --geometry or both")
    device = default_device() if options.device is None else torch.device(options.device)
    limits = ceilings(device)
    result: dict[str, Any] = {
        "environment": environment(device),
        "ceilings": limits,
        "rows": [],
        "int8_over_full": {},
    }
    for name in targets:
        rows = measure(name, options, device, limits)
        result["rows"] += rows
        result["int8_over_full"][name] = ratios(rows)
        print(result["int8_over_full"], flush=True)
        save("int8-target", result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
