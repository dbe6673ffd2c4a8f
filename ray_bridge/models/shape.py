"""The sizes of a model that is loaded."""

from ray_bridge.footprint.model_shape import ModelShape
from ray_bridge.models.frozen_lm import FrozenLM


def shape_of(lm: FrozenLM) -> ModelShape:
    """Return the sizes of a loaded model, whole even if this process holds a part of it."""
    if lm.shards is not None:
        return ModelShape.from_config(lm.config, lm.name)
    return ModelShape.from_config(lm.config, lm.name, sum(p.numel() for p in lm.model.parameters()))
