"""Completions with advantages, and their losses computed one by one by the plain model."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ray_bridge.distributed import Worker
from ray_bridge.models.soft_context import SoftContext, adapters_as_hooks
from ray_bridge.objectives.policy_gradient import Advantages
from ray_bridge.objectives.rollouts import Completion, sample_completions, worker_completions
from ray_bridge.objectives.step_context import StepKey
from tests.support.objective_steps import Frame

UNLIMITED = 10**9


LAYOUTS: dict[str, dict[str, object]] = {
    "first": {},
    "few-shot": {"num_fewshot": 2},
    "before_question": {"num_fewshot": 2, "soft_position": "before_question"},
    "soft_only": {"num_fewshot": 2, "layout": "soft_only"},
}


def rollout(frame: Frame, questions: int = 4) -> tuple[SoftContext, list[Completion], Advantages]:
    """Return soft tokens, completions of very different lengths, and some advantages."""
    items = frame.items(questions)
    soft = frame.translator.injection(frame.step(items).soft).detach()
    keys = worker_completions(Worker(), questions, frame.spec.decode_samples)
    rows = [key.question for key in keys]
    completions = sample_completions(frame.pair, StepKey(seed=0, step=0), keys, rows, items, soft, 64)
    completions = [replace(c, tokens=c.tokens[: 2 + 3 * (i % 7)]) for i, c in enumerate(completions)]
    completions[2] = replace(completions[2], tokens=(5, frame.pair.target.eos))
    completions[3] = replace(completions[3], tokens=(frame.pair.target.eos,))
    return soft, completions, {c.key: (-1) ** i * (1 + 0.1 * i) for i, c in enumerate(completions)}


def _by_hand(frame: Frame, soft: SoftContext, completion: Completion, temperature: float) -> tuple[Tensor, Tensor]:
    """Compute log-likelihood and summed KL of one completion by the plain model, without pads or micro-batches."""
    target = frame.pair.target
    item, generated = completion.item, list(completion.tokens)
    own = soft.rows([completion.soft_row])
    text = target.embed(torch.tensor([*item.row.prompt, *generated]))  # (T, d)
    before = target.embed(torch.tensor(item.row.before))  # (H, d)
    n = len(generated)
    read = [before, text] if own.adapters else [before, own.tokens[0], text]
    with adapters_as_hooks(target.layers, own):
        student = target.model(inputs_embeds=torch.cat(read)[None]).logits[0, -n - 1 : -1]  # (n, V)
    ids = torch.tensor([[*item.text_row.prompt, *generated]])
    with torch.no_grad():
        teacher = target.model(input_ids=ids).logits[0, -n - 1 : -1]  # (n, V)
    log_q, log_p = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    return log_q[range(n), generated].sum(), (log_p.exp() * (log_p - log_q)).sum()


def losses_by_hand(
    frame: Frame, soft: SoftContext, completions: Sequence[Completion], advantages: Advantages
) -> list[Tensor]:
    """Compute the RLOO and the distillation loss, one completion after another."""
    rloo = distill = torch.zeros(())
    for completion in completions:
        likelihood, divergence = _by_hand(frame, soft, completion, frame.spec.decode_temperature)
        rloo = rloo - (advantages[completion.key] or 0.0) * likelihood
        distill = distill + divergence
    return [rloo, distill]
