"""Fit the map between embedding tables once per node, and share it with every worker and trial."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.distributed import Worker
from ray_bridge.models.embedding_map import EmbeddingMap, FitOnce

_FIT = 2
"""Version of what is fitted, so that maps of earlier versions are not read: 1 read unscaled embeddings of Gemma."""


def fit_once_per_node(cache: NodeCache, worker: Worker, identity: Any) -> FitOnce:
    """Return a `FitOnce` that fits on rank 0 and stores the map in the node's cache: all workers get the same bits.

    Args:
        cache: stores the map, in fp32.
        worker: this process.
        identity: what the map depends on: both models, their dtype, and the method of the fit.
    """

    def fit_once(fit: Callable[[], EmbeddingMap]) -> EmbeddingMap:
        def compute() -> dict[str, Tensor]:
            fitted = fit()
            facts = torch.tensor([fitted.pairs, fitted.held_out_r2], dtype=torch.float64)  # (2,)
            return {"weight": fitted.weight.float(), "bias": fitted.bias.float(), "facts": facts}

        stored = cache.tensors("embedding-map", [_FIT, identity], worker, compute)
        pairs, r2 = stored["facts"].tolist()
        return EmbeddingMap(weight=stored["weight"], bias=stored["bias"], pairs=int(pairs), held_out_r2=r2)

    return fit_once
