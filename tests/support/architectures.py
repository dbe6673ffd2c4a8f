"""Tiny random models of many architectures in fp64, whose norms round to nothing less: for equality to 1e-10."""

from functools import cache
from typing import Any

import torch
from torch import nn

from ray_bridge.models.frozen_lm import FrozenLM
from tests.support.model_pairs import Arch, make_tokenizer

WINDOW = 24
"""Positions of the sliding windows: fewer than any test's text."""

_ROPE = {"rope_type": "default", "rope_theta": 1e4}
_CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "rope_parameters": _ROPE},
    "llama_tied": {"model_type": "llama", "rope_parameters": _ROPE, "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", "rope_parameters": _ROPE, "sliding_window": None},
    "mistral_windowed": {"model_type": "mistral", "rope_parameters": _ROPE, "sliding_window": WINDOW},
    "qwen2": {"model_type": "qwen2", "rope_parameters": _ROPE},
    "qwen3": {"model_type": "qwen3", "rope_parameters": _ROPE, "head_dim": 16},
    "qwen3_windowed": {
        "model_type": "qwen3",
        "rope_parameters": _ROPE,
        "head_dim": 16,
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 1,
    },
    "phi3": {"model_type": "phi3", "rope_parameters": _ROPE, "num_key_value_heads": 2},
    "phi3_partial": {
        "model_type": "phi3",
        "rope_parameters": _ROPE | {"partial_rotary_factor": 0.75},
        "sliding_window": WINDOW,
    },
    "phi3_long": {
        "model_type": "phi3",
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "short_factor": [1.0 + i / 9 for i in range(8)],
            "long_factor": [2.0 + i for i in range(8)],
            "original_max_position_embeddings": 1024,
        },
        "original_max_position_embeddings": 1024,
    },
    "gemma2": {
        "model_type": "gemma2",
        "rope_parameters": _ROPE,
        "head_dim": 16,
        "query_pre_attn_scalar": 20,
        "sliding_window": WINDOW,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 30.0,
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        "head_dim": 16,
        "query_pre_attn_scalar": 20,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
}
FUSED = tuple(name for name in _CONFIGS if name != "gemma2")
WINDOWED = ("mistral_windowed", "qwen3_windowed", "phi3_partial", "gemma3")


@cache
def tokenizer_of(name: str) -> Any:
    """Return a tokenizer in the style of the architecture's."""
    arch: Arch = "llama" if name.startswith("llama") else "qwen2" if name.startswith("qwen") else "mistral"
    return make_tokenizer(arch)


def config_of(name: str, **changes: Any) -> Any:
    """Return the configuration of a tiny model."""
    from transformers import AutoConfig

    tokenizer = tokenizer_of(name)
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "initializer_range": 0.15,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    values = common | _CONFIGS[name] | changes
    return AutoConfig.for_model(values.pop("model_type"), **values)


def exact_lm(name: str, *, dtype: torch.dtype = torch.float64, **changes: Any) -> FrozenLM:
    """Return a tiny random model; equal for equal names. In fp64 its norms and rotations are of fp64, too."""
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config_of(name, **changes)).eval()
        for module in model.modules():
            if _is_norm(module):  # else a wrong weight could not be seen
                nn.init.normal_(module.weight, 0.0 if "Gemma" in type(module).__name__ else 1.0, 0.3)
    model = model.to(dtype)
    if dtype == torch.float64:
        for module in model.modules():
            if _is_norm(module):
                module.forward = _exact_norm.__get__(module)
    return FrozenLM(model, tokenizer_of(name), name)


def _is_norm(module: nn.Module) -> bool:
    return type(module).__name__.endswith("RMSNorm")


def _exact_norm(self: Any, x: torch.Tensor) -> torch.Tensor:
    """Compute an RMS norm in the input's own precision; transformers' rounds to fp32."""
    eps = getattr(self, "variance_epsilon", None) or self.eps
    weight = 1 + self.weight if "Gemma" in type(self).__name__ else self.weight
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight
