"""Noise that depends on what it is for and on nothing else, so that no rank, batch, day or restart changes a number."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def stable_seed(*parts: int | str) -> int:
    """A 63-bit seed from named parts, the same in every process (Python's own `hash` is not)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded by named parts. Drawn on the CPU always, so that devices agree."""
    return torch.Generator().manual_seed(stable_seed(*parts))


def normal(shape: Sequence[int], keys: Sequence[Sequence[int | str]]) -> Tensor:
    """Standard normal noise, one independent draw a key.

    Args:
        shape: shape of one draw.
        keys: one key an example, e.g. ("evaluation", noise seed, example id).

    Returns:
        (len(keys), *shape), fp32 on the CPU.
    """
    return torch.stack([torch.randn(tuple(shape), generator=generator(*key)) for key in keys])


def uniform(key: Sequence[int | str]) -> float:
    """One number in [0, 1) for a key."""
    return float(torch.rand((), generator=generator(*key)))
