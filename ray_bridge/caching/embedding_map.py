"""Fit the map between embedding tables once a node and share it with every worker and trial."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.distributed import Worker
from ray_bridge.models.embedding_map import EmbeddingMap, Once


def once_a_node(cache: NodeCache, worker: Worker, identity: Any) -> Once:
    """Fit on rank 0 alone and keep the map with what trials on a node share: all workers start from the same bits.

    Args:
        cache: where it is kept, in fp32.
        worker: of the job.
        identity: what the map depends on: both models, their dtype, and the kind of fit.
    """

    def once(fit: Callable[[], EmbeddingMap]) -> EmbeddingMap:
        def found() -> dict[str, Tensor]:
            fitted = fit()
            facts = torch.tensor([fitted.pairs, fitted.held_out_r2], dtype=torch.float64)  # (2,)
            return {"weight": fitted.weight.float(), "bias": fitted.bias.float(), "facts": facts}

        kept = cache.tensors("embedding-map", identity, worker, found)
        pairs, r2 = kept["facts"].tolist()
        return EmbeddingMap(weight=kept["weight"], bias=kept["bias"], pairs=int(pairs), held_out_r2=r2)

    return once
