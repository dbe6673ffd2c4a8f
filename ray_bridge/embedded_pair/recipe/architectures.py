"""The two architectures of the embedded pair: their sizes, initial weights and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from ray_bridge.embedded_pair.recipe.tokenizers import Side


@dataclass(frozen=True, kw_only=True)
class Size:
    """Geometry of one model. Heads are 32 wide and share one head of keys and values.

    Attributes:
        side: whether it is a source or a target.
        width: hidden size.
        depth: number of layers.
        inner: width of the MLP.
        theta: base of the rotary position embedding.
    """

    side: Side
    width: int
    depth: int
    inner: int
    theta: float


SIZES: dict[str, Size] = {
    "source": Size(side="source", width=160, depth=5, inner=448, theta=1e6),
    "target": Size(side="target", width=128, depth=4, inner=384, theta=5e5),
    "target-wide": Size(side="target", width=160, depth=4, inner=448, theta=5e5),
}
HEAD_WIDTH = 32
MAX_POSITIONS = 512


def mini(size: Size) -> Size:
    """Return a size small enough to try the recipe on a CPU."""
    return Size(side=size.side, width=64 if size.side == "source" else 96, depth=2, inner=128, theta=size.theta)


def build(size: Size, tokenizer: Any) -> PreTrainedModel:
    """Make a model with initial fp32 weights from torch's current seed."""
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": size.width,
        "num_hidden_layers": size.depth,
        "intermediate_size": size.inner,
        "num_attention_heads": size.width // HEAD_WIDTH,
        "num_key_value_heads": 1,
        "head_dim": HEAD_WIDTH,
        "max_position_embeddings": MAX_POSITIONS,
        "rope_parameters": {"rope_type": "default", "rope_theta": size.theta},
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if size.side == "source":
        return MistralForCausalLM(MistralConfig(sliding_window=None, **settings))
    return LlamaForCausalLM(LlamaConfig(**settings))


def save(model: PreTrainedModel, tokenizer: Any, folder: Path) -> int:
    """Write an fp16 checkpoint with its tokenizer and return its size in bytes."""
    half = type(model)(model.config)
    half.load_state_dict({k: v.detach().float().cpu() for k, v in model.state_dict().items()})
    half = half.to(torch.float16)
    half.generation_config.update(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(f.stat().st_size for f in folder.iterdir())


def load(folder: Path, device: str) -> tuple[PreTrainedModel, Any]:
    """Load a checkpoint and its tokenizer as any user of the pair does, in fp32."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    return model, AutoTokenizer.from_pretrained(folder)
