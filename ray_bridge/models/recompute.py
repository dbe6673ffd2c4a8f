"""Activation checkpointing of transformers' own layers; fused layers do it themselves (`FusedBody.__call__`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recompute_layers(layers: nn.ModuleList) -> Iterator[None]:
    """Let layers in the body keep only their input and run again in the backward pass (Chen et al. 2016)."""
    before = [layer.__dict__.get("forward") for layer in layers]
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward
