"""Whether a model's layers can be cut into parts, and how large a part is, from its configuration alone."""

from dataclasses import replace

from bridge_common.errors import UserError
from ray_bridge.config.spec import JobSpec
from ray_bridge.footprint.model_shape import ModelShape, read_shape

SHARDED = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"})
"""Model types whose layers can be cut: queries, keys, values, gate and up are products of their own."""


def check_shards(shape: ModelShape, shards: int) -> None:
    """Refuse to cut a model into parts that are not alike.

    Args:
        shape: sizes of the model.
        shards: number of parts.

    Raises:
        UserError: if the model's layers cannot be cut, or heads or features do not divide.
    """
    if shards == 1:
        return
    if shape.kind not in SHARDED:
        known = ", ".join(sorted(SHARDED))
        raise UserError(
            f"target_shards={shards}: the layers of {shape.name} ({shape.kind}) cannot be cut; use target_shards=1, or "
            f"a model of type {known}"
        )
    counts = (
        (shape.heads, "attention heads"),
        (shape.kv_heads, "key and value heads"),
        (shape.intermediate, "features of the MLP"),
    )
    for count, what in counts:
        if count % shards:
            fits = ", ".join(str(n) for n in divisors(shape))
            raise UserError(
                f"target_shards={shards}: the {count:,} {what} of {shape.name} do not divide by it; it can be {fits}"
            )


def check_target_shards(spec: JobSpec) -> None:
    """Refuse a job whose target cannot be cut as it asks, if the target's configuration is on this machine.

    Raises:
        UserError: see `check_shards`.
    """
    if spec.target_shards > 1 and (shape := read_shape(spec.target, spec.target_revision)) is not None:
        check_shards(shape, spec.target_shards)


def divisors(shape: ModelShape) -> list[int]:
    """Return the numbers of parts into which a model's layers can be cut, 1 the first."""
    if shape.kind not in SHARDED:
        return [1]
    counts = (shape.heads, shape.kv_heads, shape.intermediate)
    return [n for n in range(1, shape.kv_heads + 1) if not any(count % n for count in counts)]


def part_of(shape: ModelShape, shards: int) -> ModelShape:
    """Return the sizes of one part of a model: its own heads, features and weights, and the whole embeddings.

    Args:
        shape: sizes of the whole model.
        shards: number of parts.
    """
    if shards == 1:
        return shape
    whole = shape.computed_parameters(tied=True)
    part = replace(
        shape,
        heads=shape.heads // shards,
        kv_heads=max(1, shape.kv_heads // shards),
        intermediate=shape.intermediate // shards,
    )
    return replace(part, parameters=shape.parameters - whole + part.computed_parameters(tied=True))
