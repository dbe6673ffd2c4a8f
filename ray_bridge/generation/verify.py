"""Judge decoding with fused layers, on text of the task and on random ids: a cached prefix, a fixed KV cache, kernels.

`FrozenLM.fuse` judges one forward pass. Decoding takes further ways: attention after a prefix that is stored once, a
cache that steps write to and read from, and kernels of their own in half precision. They are judged by the same rule,
beside the error of the eager forward pass at the same tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ray_bridge.generation.kv_caches import open_cache
from ray_bridge.inputs.layout import assemble, common_prefix
from ray_bridge.inputs.rows import Row
from ray_bridge.models.accuracy import Verdict, judge, worst
from ray_bridge.models.frozen_lm import FrozenLM

STEPS = 64
"""Decode steps that are judged."""


@torch.no_grad()
def judge_decoding(lm: FrozenLM, texts: Sequence[str] = ()) -> Verdict | None:
    """Compare decode steps of the fused layers with the eager forward pass; return None if the layers are not fused.

    A model whose steps are less accurate gives its fused layers up, with a warning.

    Args:
        lm: the model.
        texts: text of the task.
    """
    if lm.body is None:
        return None
    verdict = worst([_judge_steps(lm, ids) for ids in lm.probes(texts)])
    lm.judged["decoding"] = verdict
    if not lm.agreed(verdict.accurate):
        lm.give_up_fused(
            f"decode steps with fused layers are less accurate ({verdict.ratio:.2g} times the eager error)"
        )
    return verdict


def _judge_steps(lm: FrozenLM, ids: Tensor) -> Verdict:
    """Judge the last `STEPS` tokens of a text, (1, T), each as a decode step."""
    count = ids.shape[1]
    given = max(2, count - STEPS)
    text = tuple(ids[0].tolist())
    row = Row(before=(), prompt=text[:given], header=given // 2)
    prefix = common_prefix(lm, [row, row], soft=False)
    past = 0 if prefix is None else len(prefix)
    cache = open_cache(lm, 1, given - past, count - given, prefix, None)
    states = [cache.fill(slice(1), assemble(lm, [row], None, pad=cache.pad, prefix=prefix), given - past)]
    states += [cache.step(lm.embed(ids[:, at])[:, None]) for at in range(given, count)]
    stepped = torch.cat(states)  # (T - given + 1, d)
    lm.forget_prefixes()
    fused, lm.body = lm.body, None
    eager, reference = lm.states(ids), lm.reference_states(ids)  # (T, d) each
    lm.body = fused
    return judge(reference[given - 1 :], eager[given - 1 :], stepped, lm.dtype)
