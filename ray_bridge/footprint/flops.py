"""FLOPs of a decoder's forward passes, and bytes of its keys and values, from its sizes alone.

A multiplication with its addition counts as two. Counted are the products with weight matrices, the two products of
attention, and the head's; not counted are norms, rotations, softmax, activations and the embedding's look-up, which
are below one per cent of a model of useful size (Kaplan et al. 2020, table 1; docs/costs.md).
"""

from ray_bridge.footprint.model_shape import ModelShape

FLOPS_OF_PRODUCT = 2  # one multiplication and one addition


def layer_weights(shape: ModelShape) -> int:
    """Return the numbers in the weight matrices of one layer: query, key, value, output, and those of the MLP."""
    attention = shape.hidden * shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads)
    return attention + shape.hidden * shape.intermediate * (3 if shape.gated else 2)


def forward_flops(
    shape: ModelShape, tokens: int, past: int = 0, *, logits: int = 0, layers: int | None = None, causal: bool = True
) -> int:
    """Return the FLOPs of one row's forward pass. Reading tokens at once or one by one takes the same.

    Args:
        shape: sizes of the model.
        tokens: T, positions that are read.
        past: H, positions whose keys and values are there already.
        logits: positions whose logits are computed.
        layers: how many layers are run; all by default.
        causal: count only the T * H + T * (T + 1) / 2 pairs of positions that attend to one another; else all
            T * (H + T), which a kernel computes that does not leave out what the mask hides.
    """
    pairs = tokens * past + (tokens * (tokens + 1) // 2 if causal else tokens * tokens)
    attention = 2 * shape.heads * shape.head_dim * pairs  # scores, and their product with the values
    layer = FLOPS_OF_PRODUCT * (tokens * layer_weights(shape) + attention)
    head = FLOPS_OF_PRODUCT * logits * shape.hidden * shape.vocabulary
    return (shape.layers if layers is None else layers) * layer + head


def answer_flops(shape: ModelShape, prompt: int, decoded: int, past: int = 0) -> int:
    """Return the FLOPs of reading a prompt and generating an answer; its last token is not read again.

    Args:
        shape: sizes of the model.
        prompt: positions of the prompt that are read, soft tokens included.
        decoded: tokens that are generated, the end of text included.
        past: positions before the prompt whose keys and values are cached.
    """
    return forward_flops(shape, prompt + max(0, decoded - 1), past, logits=decoded)


def adapter_flops(hidden: int, width: int, soft_tokens: int, tokens: int, passes: int) -> int:
    """Return the FLOPs of one adapter (gated cross-attention to the soft tokens) in a layer of the target.

    Args:
        hidden: d_t.
        width: w of the adapter.
        soft_tokens: K, which every forward pass projects anew.
        tokens: T, positions of all passes.
        passes: number of forward passes.
    """
    of_token = 2 * hidden * width + 2 * width**2 + 2 * soft_tokens * width  # down, up; query, output; attention
    of_context = soft_tokens * (hidden * width + 2 * width**2)  # down; key, value
    return FLOPS_OF_PRODUCT * (tokens * of_token + passes * of_context)


def kv_bytes(shape: ModelShape, positions: int, size: int) -> int:
    """Return the bytes of the keys and values of so many positions; a sliding window is not subtracted.

    Args:
        shape: sizes of the model.
        positions: of one row.
        size: bytes of a number.
    """
    return shape.kv_elements(positions) * size
