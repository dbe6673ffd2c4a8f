"""Soft tokens together with the adapters through which a model's layers read them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftContext:
    """What a batch of rows is given besides its text.

    Where the tokens act is the rows' `injection`: inserted into the sequence, added to the question's embeddings, or
    read by the adapters alone.

    Attributes:
        adapters: by the number of the layer whose output each changes, from 1; empty unless the injection is `adapter`.
            An adapter maps (hidden (B, T, d), tokens (B, K, d)) to (B, T, d).
        tokens: (B, K, d), one set of K soft tokens for each row.
        mask: (B, K), 1 on tokens that are there; None if all are.
        writer: makes the keys and values that each row's text comes after (`CacheWriter`), or None.
    """

    adapters: Mapping[int, nn.Module] = field(default_factory=dict)
    tokens: Tensor
    mask: Tensor | None = None
    writer: nn.Module | None = None

    def apply(self, layer: int, hidden: Tensor) -> Tensor:
        """Return a layer's output (B, T, d) as its adapter changes it.

        Args:
            layer: the layer's number, from 1; without an adapter its output is returned as it is.
            hidden: (B, T, d).
        """
        adapter = self.adapters.get(layer)
        return hidden if adapter is None else adapter(hidden, self.tokens)

    def rows(self, index: Tensor | Sequence[int] | slice) -> "SoftContext":
        """Return the context of the rows that a slice, a mask (B,) or indices (b,) choose, in their order."""
        return replace(self, tokens=self.tokens[index], mask=None if self.mask is None else self.mask[index])

    def detach(self) -> "SoftContext":
        """Return the same context with tokens detached from the autograd graph."""
        return replace(self, tokens=self.tokens.detach())

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters of what reads the tokens: adapters, in the order of their layers, and the writer."""
        readers = [self.adapters[layer] for layer in sorted(self.adapters)]
        readers += [] if self.writer is None else [self.writer]
        return [parameter for reader in readers for parameter in reader.parameters()]

    @staticmethod
    def concatenate(parts: Sequence["SoftContext"]) -> "SoftContext":
        """Return one context for the rows of all parts, which share what reads them; masked pads fill short ones."""
        masks = [part.mask for part in parts if part.mask is not None]
        if not masks:
            return replace(parts[0], tokens=torch.cat([part.tokens for part in parts]))
        longest = max(mask.shape[1] for mask in masks)
        tokens = [F.pad(part.tokens, (0, 0, 0, longest - part.tokens.shape[1])) for part in parts]
        padded = [F.pad(mask, (0, longest - mask.shape[1])) for mask in masks]
        return replace(parts[0], tokens=torch.cat(tokens), mask=torch.cat(padded))


@contextmanager
def adapters_as_hooks(layers: nn.ModuleList, context: SoftContext | None) -> Iterator[None]:
    """Apply the context's adapters in modules called one by one in the body (a transformers model's layers)."""

    def hook_of(number: int, context: SoftContext) -> Any:
        def hook(_layer: nn.Module, _inputs: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return context.apply(number, output[0]), *output[1:]
            return context.apply(number, output)

        return hook

    handles = []
    if context is not None:
        handles = [layers[n - 1].register_forward_hook(hook_of(n, context)) for n in context.adapters]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
