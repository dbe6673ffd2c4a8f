"""FLOPs of making a question's soft tokens, counted by `torch.utils.flop_counter` on the bridge's own code.

So any bridge is counted, a plug-in's too. Attention is computed as its two products meanwhile: the kernels that torch
would choose differ from machine to machine, and the counter does not know all of them.
"""

import warnings
from collections.abc import Sequence
from typing import cast

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.row_cache import CacheWriter
from ray_bridge.inputs.source_batch import SourceBatch
from ray_bridge.inputs.source_cache import cache_width
from ray_bridge.model_pair import ModelPair


def bridge_flops(pair: ModelPair, translator: TranslatorModule, items: Sequence[Encoded]) -> list[int] | None:
    """Return the FLOPs of each example's soft tokens, from the source's states to what the target is given.

    They depend on the number of states that the bridge reads. The shortest, the longest and one length between them
    are counted; if these lie on a line, as for every bridge of this package, so do all others, else each is counted.

    Args:
        pair: the frozen models.
        translator: the trained part.
        items: the examples.

    Returns:
        One number an example; None, with a warning, if they cannot be counted.
    """
    try:
        return _counted(pair, translator, items)
    except Exception as error:  # a count is not worth a job that has trained for hours
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(f"FLOPs of bridge {pair.spec.bridge} are not counted: {reason}", stacklevel=2)
        return None


def _counted(pair: ModelPair, translator: TranslatorModule, items: Sequence[Encoded]) -> list[int]:
    steps = pair.spec.latent_steps
    one_of = {_states_read(translator, item, steps): item for item in items}
    lengths = sorted(one_of)
    first, middle, last = lengths[0], lengths[len(lengths) // 2], lengths[-1]
    known = {length: _count(pair, translator, one_of[length]) for length in {first, middle, last}}
    slope, rest = divmod(known[last] - known[first], max(1, last - first))
    if rest == 0 and known[middle] == known[first] + slope * (middle - first):
        known = {length: known[first] + slope * (length - first) for length in lengths}
    else:
        known |= {length: _count(pair, translator, one_of[length]) for length in lengths if length not in known}
    return [known[_states_read(translator, item, steps)] for item in items]


def _states_read(translator: TranslatorModule, item: Encoded, steps: int) -> int:
    """Return how many states the bridge reads: of latent steps, of the target's tokens, or of the source's tokens."""
    if steps:
        return steps
    if item.alignment is not None:
        return len(item.alignment.tokens)
    return item.question_span[1] - item.question_span[0]


def _count(pair: ModelPair, translator: TranslatorModule, item: Encoded) -> int:
    dtype, device = next(translator.parameters()).dtype, pair.target.device
    length, width = pair.spec.latent_steps or item.question_span[1] - item.question_span[0], pair.source.hidden_size
    if translator.hands_on and item.alignment is not None:
        length, width = len(item.alignment.tokens), cache_width(pair.source)
    source = SourceBatch(
        states=torch.zeros(1, length, width, dtype=dtype, device=device),
        mask=torch.ones(1, length, dtype=torch.long, device=device),
        items=[item],
    )
    noise = torch.zeros(1, pair.spec.soft_tokens, pair.target.hidden_size, dtype=dtype, device=device)
    # With gradients enabled, as the counter's hooks on modules need it; no backward pass follows.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        soft = translator.context(source, translator(source, noise))
        if soft.writer is not None:
            cast(CacheWriter, soft.writer).rehearse(soft.tokens)
    return int(counter.get_total_flops())
