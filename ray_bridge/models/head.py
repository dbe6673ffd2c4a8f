"""The head of a checkpoint, which some architectures scale or cap: from last hidden states to logits."""

from typing import Any

import torch
from torch import Tensor, nn

from bridge_common.errors import UserError


def logits_of(head: nn.Module, config: Any, hidden: Tensor) -> Tensor:
    """Apply a head as its architecture does.

    Args:
        head: the checkpoint's output layer.
        config: its text configuration.
        hidden: (..., d) last hidden states.

    Returns:
        (..., V), in fp32 or wider.
    """
    logits = head(hidden)  # (..., V)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    scale = getattr(config, "logit_scale", None)  # Cohere
    divisor = getattr(config, "logits_scaling", None)  # Granite
    cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
    if scale is not None:
        logits = logits * scale
    if divisor is not None:
        logits = logits / divisor
    if cap is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits


def check_logits(model: Any, name: str, ids: Tensor, logits: Tensor) -> None:
    """Refuse a model whose own logits are not those of its head on its last hidden states.

    Args:
        model: the whole checkpoint.
        name: its name, for the message.
        ids: (1, T) tokens that it reads.
        logits: (T, V), those of `logits_of` for these tokens.

    Raises:
        UserError: if they differ by more than rounding.
    """
    whole = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0].float()  # (T, V)
    tolerance = 1e-3 if model.get_input_embeddings().weight.dtype == torch.float32 else 0.1
    gap = float((whole - logits.float()).abs().max() / whole.abs().max().clamp(min=1e-6))
    if not gap < tolerance:
        raise UserError(
            f"{name}: a {type(model).__name__} does not compute its logits as its head on its last hidden state "
            f"(relative difference {gap:.2g}); use a model that does"
        )
