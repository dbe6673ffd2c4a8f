"""What a forward pass with gradient keeps for its backward pass: of the frozen target, and of the bridge.

The target's weights are frozen, so a product keeps nothing but its weight; what is kept are the inputs of norms,
attention and gate. Each storage is counted once.
"""

from ray_bridge.config.spec import JobSpec
from ray_bridge.footprint.model_shape import ModelShape

FP32 = 4
RESIDUAL_NORMS = 2
"""Norms a layer that read the residual stream, before attention and before the MLP."""


def kept_bytes(shape: ModelShape, rows: int, length: int, *, past: int, size: int, kernels: bool, fused: bool) -> int:
    """Return the bytes that the layers of the target keep.

    Args:
        shape: of the target.
        rows: B.
        length: T, positions of a row that are read.
        past: H, positions of a prefix whose keys and values are joined to every row's.
        size: bytes of a number in the target's dtype.
        kernels: whether half precision runs in the kernels of a GPU.
        fused: whether layers are fused.
    """
    tokens, keys = rows * length, rows * (past + length)
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    wide = max(size, FP32)
    # transformers computes norms in fp32, and so do Gemma's; each also keeps a factor for each token. The kernels of
    # fused layers keep what they read: of Gemma's four norms a layer, those of the residual stream.
    halves = 0 if not kernels else shape.norms if not shape.wide_norms else RESIDUAL_NORMS if fused else 0
    norms = shape.norms * (shape.hidden * wide + FP32) - halves * shape.hidden * (wide - size)
    heads = 0
    if shape.head_norms:
        heads = (q + kv) * wide if size < FP32 and not kernels else (q + 2 * kv) * size
    mlp = (3 if shape.gated else 1) * shape.intermediate * size
    if kernels and fused and shape.gated:
        mlp = 2 * shape.intermediate * size
    if fused and not kernels and not past:
        attention = tokens * (3 * q + 3 * kv) * size  # values are a part of the joined product, all of which is kept
    else:
        grouped = fused or shape.kv_heads in (1, shape.heads)  # else transformers repeats keys for every head
        attention = tokens * 2 * q * size + keys * 2 * (kv if grouped else q) * size
    attention += tokens * shape.heads * FP32
    if not fused and not past:
        attention += tokens * length * size  # a mask for each layer; after a prefix they share one
    if shape.capped:
        attention += 2 * FP32 * shape.heads * tokens * (past + length)
    once = tokens * shape.hidden * wide  # the final norm's input
    if not fused and past:
        once += tokens * (past + length) * size  # the mask
    return shape.layers * (tokens * (norms + heads + mlp) + attention) + once


def recomputed_bytes(
    shape: ModelShape, rows: int, length: int, *, past: int, size: int, kernels: bool, fused: bool, shards: int = 1
) -> int:
    """Return the bytes that are kept if layers run again in the backward pass: all inputs, and one layer's whole.

    Args:
        shape: of the target, or of the part that a process holds.
        rows: B.
        length: T.
        past: H.
        size: bytes of a number in the target's dtype.
        kernels: as in `kept_bytes`.
        fused: whether layers are fused.
        shards: processes that hold the target; they share the inputs of fused layers out among them.
    """
    inputs = shape.layers * rows * length * shape.hidden * size // (shards if fused else 1)
    whole = kept_bytes(shape, rows, length, past=past, size=size, kernels=kernels, fused=fused)
    return inputs + whole // shape.layers


def bridge_bytes(spec: JobSpec, rows: int, read: int) -> int:
    """Return about the bytes that the bridge keeps, its sampler unrolled, in fp32.

    Args:
        spec: the job.
        rows: B.
        read: source tokens that it reads.
    """
    if spec.bridge in ("constant", "linear"):
        return 0
    if spec.bridge == "c2c":  # of each fused layer, for keys and values: about six of its width, and the fused cache
        return FP32 * rows * read * spec.depth * 12 * spec.hidden_size
    width, K = spec.hidden_size, spec.soft_tokens
    plain = spec.bridge in ("dit", "resampler")  # the others also attend to every source token
    of_block = (22 if plain else 27) * width * K + (0 if plain else 2 * width * read)
    passes = 1 if spec.bridge == "resampler" else spec.sampler_steps + 1  # one more for the flow loss
    return FP32 * rows * spec.depth * passes * of_block


def trained_parameters(spec: JobSpec, source: ModelShape, target: ModelShape) -> int:
    """Return about the number of trained parameters; a plug-in's bridge is counted as a `dit_xattn`."""
    width, d_s, d_t = spec.hidden_size, source.hidden, target.hidden
    of_block = {"dit": 18, "resampler": 14.5}.get(spec.bridge, 25) * width**2
    read = d_t if spec.geometry_projection else d_s
    ends = width * (2 * d_t + 2 * read + spec.soft_tokens)
    adapters = 0
    if spec.injection == "adapter":
        count = len(spec.adapter_layers) or target.layers // 2
        adapters = count * (3 * d_t * width + 4 * width**2)
    if spec.injection == "kv_prefix":
        adapters = width * d_t + 2 * width**2 + target.layers * width * 2 * target.kv_heads * target.head_dim
    if spec.bridge == "c2c":
        own, other = target.kv_heads * target.head_dim, source.kv_heads * source.head_dim
        of_layer = 2 * (width * (2 * own + other + width + target.kv_heads) + 4 * width + own)
        return min(source.layers, target.layers) * of_layer
    projection = d_s * d_t if spec.geometry_projection else 0
    if spec.bridge == "linear":
        return read * d_t + spec.soft_tokens * d_t + projection + adapters
    if spec.bridge == "constant":
        return spec.soft_tokens * d_t + projection + adapters
    return int(spec.depth * of_block) + ends + 4 * width**2 + projection + adapters
