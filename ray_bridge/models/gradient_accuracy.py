"""Judge the gradients that fused layers give to their inputs: all that training sees of a frozen target.

`FrozenLM.fuse` judges states. The backward pass has kernels of its own, after a cached header it takes a path of its
own, and so it does in the last layer, which computes only positions that are read. All are judged by the rule of
`accuracy`: token by token on text of the task and on random ids, against higher precision, beside the eager path's own
error.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ray_bridge.models.accuracy import TOKENS, PreciseDecoder, Verdict, judge, worst
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.prefix_cache import Prefix, count_positions
from ray_bridge.noise import generator


def judge_gradients(lm: FrozenLM, texts: Sequence[str] = ()) -> Verdict | None:
    """Compare gradients of fused layers, with and without a cached header, with eager ones; None if they are not fused.

    A model whose gradients are less accurate gives its fused layers up, with a warning.

    Args:
        lm: the model.
        texts: text of the task.
    """
    if lm.body is None:
        return None
    verdict = worst([_judge_text(lm, ids) for ids in lm.probes(texts)])
    lm.judged["gradients"] = verdict
    if not lm.agreed(verdict.accurate):
        lm.give_up_fused(f"gradients of fused layers are less accurate ({verdict.ratio:.2g} times the eager error)")
    return verdict


def _judge_text(lm: FrozenLM, ids: Tensor) -> Verdict:
    """Judge the gradients on a text, (1, T), whose first half is the cached header, then text like the other half."""
    prefix = lm.prefix(tuple(ids[0, : ids.shape[1] // 2].tolist()))
    past = 0 if prefix is None else len(prefix)
    with torch.no_grad():
        embeds = lm.embed(ids)  # (1, T, d)
    grad_states = torch.randn(embeds.shape, generator=generator("gradient probe")).to(embeds)  # (1, T, d)
    grad_states[:, :past] = 0
    after = _gradients(lm, embeds[:, past:], grad_states[:, past:], prefix)  # (T - past, d)
    whole = _gradients(lm, embeds, grad_states, last=ids.shape[1] - past)  # (T, d), the first half read as text
    fused, lm.body = lm.body, None
    eager = _gradients(lm, embeds, grad_states)  # (T, d)
    lm.forget_prefixes()
    precise = PreciseDecoder(lm.model, embeds, count_positions(torch.ones_like(ids))).gradients(grad_states)  # (T, d)
    lm.body = fused
    return worst([judge(precise[past:], eager[past:], after, lm.dtype), judge(precise, eager, whole, lm.dtype)])


def _gradients(
    lm: FrozenLM, embeds: Tensor, grad_states: Tensor, prefix: Prefix | None = None, last: int | None = None
) -> Tensor:
    leaf = embeds.clone().requires_grad_()
    mask = torch.ones(leaf.shape[:2], dtype=torch.long, device=leaf.device)  # (1, T)
    positions = count_positions(mask) + (0 if prefix is None else len(prefix))  # (1, T)
    with torch.enable_grad():
        # Of a probe that outruns a long window, the activations of all layers might not fit.
        again = leaf.shape[1] > TOKENS
        states = lm.hidden(leaf, mask, positions, prefix=prefix, recompute=again, last=last)  # (1, T, d)
        (grad,) = torch.autograd.grad(states, leaf, grad_states)
    return grad[0]
