"""Train one model of the pair, in a worker process of `ray_bridge.embedded_pair.recipe.train`."""

from __future__ import annotations

import argparse
import platform
import time
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel

from bridge_common.files import write_json
from ray_bridge.embedded_pair.recipe import compiled_forward
from ray_bridge.embedded_pair.recipe.architectures import SIZES, build, mini, save
from ray_bridge.embedded_pair.recipe.context_notes import soften
from ray_bridge.embedded_pair.recipe.measure import measure
from ray_bridge.embedded_pair.recipe.muon import Muon, trapezoid
from ray_bridge.embedded_pair.recipe.pretraining_corpus import LENGTH, QUESTION, Feed

VALUE_LAYER = 3
"""The source's layer, of five, from whose states linear heads read the values of numbers during training."""
VALUE_WEIGHT = 0.3
MEASURE_SECONDS = {"cuda": 45.0, "cpu": 60.0}
_BATCH = {"source": 512, "target-plain": 512, "target-noted": 384}
_QUESTION_WEIGHT = 0.1


class ValueHeads(nn.Module):
    """Linear heads that read the values of numbers from the source's states while it is trained, then discarded.

    One head reads tens and units at the last token of every number, so that numerals and the three languages get one
    representation. Two more predict, at every token, the value of the first or second number word if it ends there, a
    representation that survives averaging over the question.

    Args:
        width: d, of the states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = nn.Linear(width, 20)
        self.marks = nn.Linear(width, 44)

    def forward(self, states: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the heads' loss on states (B, S, d) of one layer."""
        states = F.rms_norm(states.float(), (states.shape[-1],))
        values, ordinals = batch["V"][:, :-1], batch["T"][:, :-1]  # (B, S)
        question = (batch["W"][:, :-1] == QUESTION).float()
        number = (values >= 0).float()
        digits = torch.stack([values.clamp(min=0) // 10, values.clamp(min=0) % 10], -1)  # (B, S, 2)
        loss = _mean(self.value(states).unflatten(-1, (2, 10)), digits, number)
        marks = self.marks(states).unflatten(-1, (2, 2, 11))  # (B, S, first or second, tens and units, class)
        for k in (1, 2):
            here = (ordinals == k)[..., None]
            weight = question * (0.05 + 0.95 * (ordinals == k).float())
            loss = loss + _mean(marks[:, :, k - 1], torch.where(here, digits, 10), weight)
        return loss


def _mean(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean loss of two digits: logits (B, S, 2, c), labels (B, S, 2), weights (B, S)."""
    loss = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="none").view(labels.shape).sum(-1)
    return (loss * weight).sum() / weight.sum().clamp(min=1)


class ModelTrainer:
    """One model with its data, loss and optimiser.

    Args:
        args: the command line of the worker process.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.name, self.device = args, args.worker, args.device
        size = SIZES[self.name] if args.scale == "full" else mini(SIZES[self.name])
        self.side = size.side
        self.tokenizer_folder = args.out / "tokenizers" / self.side
        streams = ["source"] if self.side == "source" else ["target-plain", "target-noted", "target-noted"]
        seed = args.seed * 100 + list(SIZES).index(self.name)
        share = max(1, args.processes // len(set(streams)))
        # Forked before the GPU is touched.
        self.feeds = {s: Feed(s, self.tokenizer_folder, args.rows, share, seed) for s in dict.fromkeys(streams)}  # type: ignore[arg-type]
        self.order = [self.feeds[s] for s in streams]
        torch.manual_seed(seed)
        if self.device == "cuda":
            torch.set_float32_matmul_precision("high")
        self.tokenizer = AutoTokenizer.from_pretrained(self.tokenizer_folder)
        self.model: PreTrainedModel = build(size, self.tokenizer).to(self.device).train()
        self.heads = ValueHeads(size.width).to(self.device) if self.side == "source" else None
        self.value_layer = min(VALUE_LAYER, size.depth - 1)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.rope = compiled_forward.rope_table(
            size.theta, self.model.config.head_dim, max(LENGTH.values()), self.device
        )
        extra = list(self.heads.parameters()) if self.heads else []
        self.optimiser = Muon(self.model, extra)
        self.params = [*self.model.parameters(), *extra]
        self.weights = torch.tensor([0.0, _QUESTION_WEIGHT, 1.0], device=self.device)
        self.layer: Any = compiled_forward.layer
        self.head: Any = compiled_forward.loss_head

    def log(self, *what: Any) -> None:
        """Print values on a line that starts with the model's name."""
        print(f"{self.name}|", *what, flush=True)

    def prepare(self) -> None:
        """Wait for the first rows, check `compiled_forward` against transformers, and compile it.

        Raises:
            RuntimeError: if their logits differ.
        """
        for feed in self.feeds.values():
            feed.place(self.device)
            feed.pull(min(feed.size, feed.total))
        batch = self.order[-1].batch(8, self.generator)
        gap = compiled_forward.disagreement(self.model, batch["X"][:, :-1], self.rope)
        self.log(f"parameters {sum(p.numel() for p in self.model.parameters())}, forward differs by {gap:.1e}")
        if gap > 2e-2:
            raise RuntimeError(f"compiled_forward differs from transformers by {gap:.1e}: compare their modules")
        if self.device == "cuda":
            began = time.time()
            self.layer = torch.compile(compiled_forward.layer, dynamic=False)
            self.head = torch.compile(compiled_forward.loss_head, dynamic=False)
            for feed in self.feeds.values():
                self.loss(feed.batch(self.batch_size(feed), self.generator)).backward()
            self.model.zero_grad(set_to_none=True)
            self.log(f"compiled in {time.time() - began:.0f} s")

    def batch_size(self, feed: Feed) -> int:
        """Return the number of rows of a step."""
        return 16 if self.args.scale == "mini" else _BATCH[feed.stream]

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the next-token loss of a batch of `shard`'s matrices, for the source with that of the value heads."""
        table = self.model.get_input_embeddings().weight
        x = batch["X"]
        embeds = F.embedding(x[:, :-1], table)  # (B, S, d)
        if "K" in batch:
            embeds = soften(embeds, batch["K"][:, :-1], table, self.generator)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            states = compiled_forward.hidden_states(self.model, embeds, self.rope, self.layer)
            config = self.model.config
            weight = self.weights[batch["W"][:, 1:]]
            loss = self.head(states[-1], self.model.model.norm.weight, table, config.rms_norm_eps, x[:, 1:], weight)
        return loss + VALUE_WEIGHT * self.heads(states[self.value_layer], batch) if self.heads else loss

    def run(self) -> dict[str, Any]:
        """Train until the time is over, save the checkpoint, and return the figures of the training.

        Raises:
            RuntimeError: if the loss is not finite.
        """
        self.prepare()
        start, end = time.time(), self.args.deadline - MEASURE_SECONDS[self.device]
        step, saved = 0, 0.0
        folder = self.args.out / self.name
        while True:
            progress = (time.time() - start) / max(1.0, end - start)
            if progress >= 1:
                break
            feed = self.order[step % len(self.order)]
            if step % 25 == 0:
                for f in self.feeds.values():
                    f.pull()
            loss = self.loss(feed.batch(self.batch_size(feed), self.generator))
            loss.backward()
            nn.utils.clip_grad_norm_(self.params, 1.0)
            self.optimiser.step(trapezoid(progress))
            self.optimiser.adam.zero_grad(set_to_none=True)
            self.model.zero_grad(set_to_none=True)
            step += 1
            if step % 500 < len(self.order) or step <= len(self.order):
                if not torch.isfinite(loss):
                    raise RuntimeError(f"training diverged at step {step}: the loss is {loss.item()}")
                rows = {f.stream: f.filled for f in self.feeds.values()}
                self.log(f"step {step} progress {progress:.2f} {feed.stream} loss {loss.item():.4f} rows {rows}")
            if progress > 0.6 and progress - saved > 0.15:
                saved = progress
                save(self.model, self.tokenizer, folder)
        for f in self.feeds.values():
            f.close()
        size = save(self.model, self.tokenizer, folder)
        self.log(f"saved {size} bytes after {step} steps")
        return {
            "steps": step,
            "seconds": round(time.time() - start),
            "rows": {f.stream: f.filled for f in self.feeds.values()},
            "batch": {f.stream: self.batch_size(f) for f in self.feeds.values()},
            "seed": self.args.seed,
            "value_layer": self.value_layer if self.heads else None,
            "geometry": {
                k: getattr(self.model.config, k)
                for k in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
            },
        }


def train_one(args: argparse.Namespace) -> None:
    """Train, save and measure one model; writes OUT/NAME/ and OUT/NAME.json."""
    trainer = ModelTrainer(args)
    figures = trainer.run()
    figures["machine"] = {
        "device": torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or "CPU",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    write_json(args.out / f"{args.worker}.json", figures)
    del trainer.feeds
    figures |= measure(args.out / args.worker, SIZES[args.worker].side, args.device, args.test)
    write_json(args.out / f"{args.worker}.json", figures)
    trainer.log("measured", figures)
