"""Seeded noise that depends on what it is drawn for and nothing else: not on rank, batch, restart or device."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor


def stable_seed(*parts: int | str) -> int:
    """Return a 63-bit seed made from named parts, the same in every process (Python's own `hash` is not)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Return a generator seeded by named parts. It is on the CPU, whose numbers do not differ between devices."""
    return torch.Generator().manual_seed(stable_seed(*parts))


def normal(shape: Sequence[int], keys: Sequence[Sequence[int | str]]) -> Tensor:
    """Draw standard normal noise, independently for each key.

    Args:
        shape: shape of one draw.
        keys: one key for each example, e.g. ("evaluation", noise seed, example id).

    Returns:
        (len(keys), *shape), fp32 on the CPU.
    """
    return torch.stack([_drawn(tuple(shape), tuple(key)) for key in keys])


def draw_ahead(shape: Sequence[int], keys: Sequence[Sequence[int | str]]) -> None:
    """Start to draw in a thread what `normal` will be asked for soon. The numbers are the same without it."""
    while len(_ahead) > _MOST_AHEAD:
        _ahead.pop(next(iter(_ahead)))
    for key in keys:
        _ahead[tuple(shape), tuple(key)] = _thread().submit(_draw, tuple(shape), tuple(key))


_MOST_AHEAD = 256
_ahead: dict[tuple[tuple[int, ...], tuple[int | str, ...]], Future[Tensor]] = {}


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="noise")


def _drawn(shape: tuple[int, ...], key: tuple[int | str, ...]) -> Tensor:
    started = _ahead.pop((shape, key), None)
    return _draw(shape, key) if started is None else started.result()


def _draw(shape: tuple[int, ...], key: tuple[int | str, ...]) -> Tensor:
    return torch.randn(shape, generator=generator(*key))


def uniform(key: Sequence[int | str]) -> float:
    """Draw one number in [0, 1) for a key."""
    return float(torch.rand((), generator=generator(*key)))
