"""Random targets in parts: made on the device, each process its own part, and checkpoints to measure loading with."""

import os
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.harness import clock
from benchmarks.random_models import GEOMETRY, rows_of
from ray_bridge.config.checkpoint_names import resolve
from ray_bridge.distributed import Worker
from ray_bridge.inputs.layout import assemble_after_prefix
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.sharding.group import ShardGroup
from ray_bridge.models.sharding.layers import cut_layers, local_bytes, replace_parameter
from ray_bridge.models.sharding.weights import load_part, parameters_on_meta
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.noise import stable_seed

_LLAMA = GEOMETRY["target"]
GEOMETRIES: dict[str, dict[str, Any]] = {
    "8b": _LLAMA,
    "32b": _LLAMA
    | {"hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64, "num_attention_heads": 40},
    "70b": _LLAMA
    | {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64},
    "tiny": _LLAMA
    | {
        "vocab_size": 4096,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 8,
    },
}
"""Llama-3.1-8B and -70B; 32b has the width, depth and heads of Qwen2.5-32B with Llama's layers and vocabulary."""


def empty_model(geometry: str, dtype: torch.dtype, layers: int | None = None) -> Any:
    """Return a model whose parameters have no memory yet, with all or the first so many layers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    values = dict(GEOMETRIES[geometry])
    values |= {} if layers is None else {"num_hidden_layers": min(layers, values["num_hidden_layers"])}
    config = AutoConfig.for_model(values.pop("kind"), **values)
    with parameters_on_meta():
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def make_part(
    geometry: str,
    device: torch.device,
    group: ShardGroup | None,
    dtype: torch.dtype,
    layers: int | None = None,
) -> Any:
    """Return a random model, or a process's part of one; what processes share is the same on all of them."""
    model = empty_model(geometry, dtype, layers)
    parts = {} if group is None else cut_layers(model, geometry, group)
    for name, parameter in list(model.named_parameters()):
        part = parts.get(name)
        shape = list(parameter.shape)
        key: tuple[Any, ...] = (name,)
        if part is not None and group is not None:
            shape[part.dim], key = part.end - part.begin, (name, group.rank)
        replace_parameter(model, name, _draw(shape, key, device, dtype))
    model.tie_weights()
    return model.to(device).eval()


def _draw(shape: list[int], key: tuple[Any, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    if len(shape) == 1:
        return torch.ones(shape, device=device, dtype=dtype)
    generator = torch.Generator(device).manual_seed(stable_seed(*key) % (1 << 62))
    return torch.empty(shape, device=device, dtype=dtype).normal_(0.0, 0.02, generator=generator)


def sharded_lm(geometry: str, device: torch.device, group: ShardGroup) -> FrozenLM:
    """Return a process's part of a random target, its layers fused on a GPU, with the embedded target's tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(resolve("embedded:target"))
    dtype = torch.float32 if geometry == "tiny" else torch.bfloat16
    lm = FrozenLM(make_part(geometry, device, group, dtype), tokenizer, f"random-{geometry}", group)
    return lm.fuse() if device.type == "cuda" else lm


def write_checkpoint(geometry: str, folder: Path, layers: int, worker: Worker) -> float:
    """Write a random checkpoint with some of the layers, one file a layer, each by one of the workers.

    Returns:
        Seconds that this worker took.
    """
    begin = time.perf_counter()
    dtype = torch.float32 if geometry == "tiny" else torch.bfloat16
    model = empty_model(geometry, dtype, layers)
    if worker.first:
        model.config.save_pretrained(folder)
    files: dict[str, dict[str, list[int]]] = {}
    for name, parameter in model.named_parameters():
        label = name.split(".")[2] if ".layers." in name else "rest"
        files.setdefault(label, {})[name] = list(parameter.shape)
    for number in worker.share(len(files)):
        label, shapes = list(files.items())[number]
        path = folder / f"model-{label}.safetensors"
        save_file({name: _draw(shape, (name,), worker.device, dtype).cpu() for name, shape in shapes.items()}, path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    return time.perf_counter() - begin


def timed_load(folder: Path, worker: Worker, group: ShardGroup, dtype: str) -> dict[str, Any]:
    """Load this process's part of a checkpoint, first from the disk and then from the page cache, and time both."""
    found: dict[str, Any] = {}
    for name in ("from_disk", "from_page_cache"):
        if name == "from_disk" and worker.first:
            _forget(folder)
        worker.barrier()
        begin = clock(worker.device) if worker.device.type == "cuda" else time.perf_counter()
        model = load_part(str(folder), folder.name, revision=None, dtype=dtype, device=worker.device, group=group)
        end = clock(worker.device) if worker.device.type == "cuda" else time.perf_counter()
        size = local_bytes(model)
        del model
        slowest = max(float(str(seconds)) for seconds in worker.gather(end - begin))
        found[name] = {
            "seconds": round(slowest, 2),
            "gib_on_each": round(size / 2**30, 3),
            "gb_per_s_on_each": round(size / slowest / 1e9, 2),
        }
    found["checkpoint_gib"] = round(sum(p.stat().st_size for p in folder.glob("*.safetensors")) / 2**30, 2)
    return found


def _forget(folder: Path) -> None:
    """Ask the system to drop a folder's files from its page cache."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def logits_and_gradient(lm: FrozenLM) -> tuple[Tensor, Tensor]:
    """Return a model's logits of three random answers, (N, V), and the loss's gradient to Z, (3, 8, d_t)."""
    rows = rows_of(lm, 3, 60)
    rows = [type(row)(before=row.before, prompt=row.prompt, answer=(20, 21, lm.eos)) for row in rows]
    z = torch.randn(3, 8, lm.hidden_size, generator=torch.Generator().manual_seed(1)) * lm.embedding_rms
    z = z.to(lm.device, lm.dtype).requires_grad_()
    batch = assemble_after_prefix(lm, rows, SoftContext(tokens=z), pad="right")
    hidden = lm.hidden(batch.embeds, batch.mask, batch.positions, prefix=batch.prefix, right_padded=True)
    logits = lm.logits(hidden[batch.answers.rows, batch.answers.at])
    [gradient] = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, batch.answers.tokens), [z])
    return logits.detach(), gradient


def difference(a: Tensor, b: Tensor) -> float:
    """Return the norm of the difference over the norm of the second tensor, of any shape."""
    return float((a.double() - b.double()).norm() / b.double().norm())
