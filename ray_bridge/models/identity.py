"""Identify a frozen model by its content, so that a translator is never put between models it was not trained with."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ray_bridge.models.eight_bits import values_of

SAMPLED = 4096
"""Values read at the start, the middle and the end of each weight tensor: training changes weights everywhere."""


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """Digests of a model's content, the same wherever its files lie and in whatever dtype holds its values exactly.

    Attributes:
        weights: of the names, shapes and sampled values of all parameters; empty if they were spread over processes.
        tokenizer: of the tokenizer's vocabulary, rules and special tokens.
        chat_template: of its chat template; empty if it has none.
    """

    weights: str
    tokenizer: str
    chat_template: str

    def differences(self, other: "ModelIdentity") -> list[str]:
        """Return the names of the parts that differ; weights that one of the two lacks are not compared."""
        compared = ["tokenizer", "chat_template"] + ["weights"] * bool(self.weights and other.weights)
        return [name for name in self.record() if name in compared and getattr(self, name) != getattr(other, name)]

    def record(self) -> dict[str, str]:
        """Return the identity as it is written to a file."""
        return asdict(self)


@torch.no_grad()
def identify(model: Any, tokenizer: Any, *, whole: bool = True) -> ModelIdentity:
    """Compute a model's identity, reading at most `3 * SAMPLED` values of each parameter.

    Args:
        model: a transformers model.
        tokenizer: its fast tokenizer.
        whole: whether this process holds all of the weights; a part's digest would be of no use.
    """
    weights = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(model.named_parameters()) if whole else ():
        weights.update(f"{name} {tuple(parameter.shape)}".encode())
        flat = values_of(parameter.detach()).reshape(-1)  # (n,)
        middle = len(flat) // 2
        for part in (flat[:SAMPLED], flat[middle : middle + SAMPLED], flat[-SAMPLED:]):
            weights.update(part.double().cpu().numpy().tobytes())  # exact from every dtype of weights
    special = sorted((key, str(value)) for key, value in tokenizer.special_tokens_map.items())
    template = tokenizer.chat_template
    return ModelIdentity(
        weights=weights.hexdigest() if whole else "",
        tokenizer=_digest(tokenizer.backend_tokenizer.to_str() + repr(special)),
        chat_template=_digest(str(template)) if template else "",
    )


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
