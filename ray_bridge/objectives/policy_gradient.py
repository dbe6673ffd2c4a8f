"""Gradients of RLOO and on-policy distillation on generated tokens, in micro-batches."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ray_bridge.inputs.layout import assemble_shared
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.objectives.answer_kl import kl_divergence
from ray_bridge.objectives.rollouts import Completion, Turn, leave_one_out
from ray_bridge.objectives.step_context import StepContext


def judge(
    step: StepContext, completions: Sequence[Completion], samples: int
) -> tuple[dict[Turn, float | None], dict[str, float]]:
    """Advantages within each question's group, over all workers.

    Returns:
        The advantage of each completion of any worker, None in groups of equal rewards; and what is logged.
    """
    results: dict[Turn, tuple[float, int]] = {}
    for part in step.worker.gather({c.turn: (c.reward, len(c.tokens)) for c in completions}):
        results.update(part)  # type: ignore[call-overload]
    advantages: dict[Turn, float | None] = {}
    groups = sorted({turn.question for turn in results})
    equal = 0
    for question in groups:
        turns = [Turn(question=question, sample=g) for g in range(samples)]
        group = leave_one_out([results[turn][0] for turn in turns])
        equal += group is None
        advantages.update((turn, None if group is None else group[turn.sample]) for turn in turns)
    facts = {
        "decode/reward_mean": sum(reward for reward, _ in results.values()) / len(results),
        "decode/frac_zero_advantage": equal / len(groups),
        "decode/tokens": sum(tokens for _, tokens in results.values()) / len(results),
    }
    return advantages, facts


def accumulate(
    target: FrozenLM,
    soft: SoftContext,
    completions: Sequence[Completion],
    advantages: Mapping[Turn, float | None],
    temperature: float,
    micro_tokens: int,
) -> tuple[Tensor, list[list[Tensor]]]:
    """Both losses and their gradients in Z and in the adapters, one micro-batch after another.

    Args:
        target: the frozen target.
        soft: Z (q, K, d_t) without gradient, and the adapters that read it.
        completions: what was written from rows of `soft`.
        advantages: of each completion, None where it is not reinforced.
        temperature: at which the completions were sampled.
        micro_tokens: positions of one forward pass.

    Returns:
        Sums over tokens of the RLOO and the distillation loss, (2,), and of each loss its gradients: in Z,
        (q, K, d_t), then in each of `parameters_of(soft.adapters)`.
    """
    dtype = torch.promote_types(soft.tokens.dtype, torch.float32)  # sums of bf16 would lose bits
    all_z, parameters = soft.tokens.to(dtype), parameters_of(soft.adapters)  # (q, K, d_t)
    values = all_z.new_zeros(2)  # (2,)
    gradients = [[torch.zeros_like(x) for x in (all_z, *parameters)] for _ in values]
    for part in micro_batches(completions, all_z.shape[1], micro_tokens):
        places = torch.tensor([c.place for c in part], device=all_z.device)  # (b,)
        z = all_z[places].requires_grad_()  # (b, K, d_t)
        weights = torch.tensor([advantages[c.turn] or 0.0 for c in part], device=all_z.device)  # (b,)
        losses = token_losses(target, replace(soft, tokens=z), part, weights, temperature)
        for i, loss in enumerate(losses):
            of_z, *others = torch.autograd.grad(loss, [z, *parameters], retain_graph=i == 0)  # (b, K, d_t), ...
            gradients[i][0].index_add_(0, places, of_z)
            for total, more in zip(gradients[i][1:], others, strict=True):
                total.add_(more)
            values[i] += loss.detach()
    return values, gradients


def parameters_of(adapters: Mapping[int, nn.Module]) -> list[nn.Parameter]:
    """What is trained inside the target, in a fixed order."""
    return [parameter for layer in sorted(adapters) for parameter in adapters[layer].parameters()]


def token_losses(
    target: FrozenLM,
    soft: SoftContext,
    completions: Sequence[Completion],
    advantages: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """RLOO and distillation loss of completions, summed over their tokens, with gradient in Z and the adapters.

    Args:
        target: the frozen target.
        soft: Z of each completion, (b, K, d_t), and the adapters that read it; the teacher gets neither.
        completions: b of them.
        advantages: (b,).
        temperature: of the policy.
    """
    student = assemble_shared(target, [replace(c.item.row, answer=c.tokens) for c in completions], soft, pad="right")
    with recomputed(target.layers):
        hidden = target.hidden(
            student.embeds,
            student.mask,
            student.positions,
            prefix=student.prefix,
            context=student.context,
            right_padded=True,
            recompute=True,
        )  # (b, L, d_t)
    rows, tokens = student.answers.rows, student.answers.tokens  # (N,) each
    logits = target.logits(hidden[rows, student.answers.at]) / temperature  # (N, V)
    with torch.no_grad():
        texts = [replace(c.item.text_row, answer=c.tokens) for c in completions]
        teacher = assemble_shared(target, texts, None, pad="right")
        if student.answers.ids != teacher.answers.ids:
            raise ValueError("student and teacher do not read the same completions")
        hidden = target.hidden(
            teacher.embeds, teacher.mask, teacher.positions, prefix=teacher.prefix, right_padded=True
        )  # (b, L', d_t)
        teacher_logits = target.logits(hidden[rows, teacher.answers.at]) / temperature  # (N, V)
    surprise = F.cross_entropy(logits, tokens, reduction="none")  # (N,)
    return (advantages[rows] * surprise).sum(), kl_divergence(teacher_logits, logits).sum()


def micro_batches(completions: Sequence[Completion], soft_tokens: int, limit: int) -> Iterator[list[Completion]]:
    """Completions of similar length in batches of at most `limit` positions, pads included, or of one."""

    def length(completion: Completion) -> int:
        row = completion.item.row
        return len(row.before) + soft_tokens + len(row.prompt) + len(completion.tokens)

    part: list[Completion] = []
    for completion in sorted(completions, key=length, reverse=True):
        if part and length(part[0]) * (len(part) + 1) > limit:
            yield part
            part = []
        part.append(completion)
    if part:
        yield part


@contextmanager
def recomputed(layers: nn.ModuleList) -> Iterator[None]:
    """Within it, layers keep their input alone and run again in the backward pass (Chen et al. 2016)."""
    before = [layer.__dict__.get("forward") for layer in layers]
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward


def carry(trained: Sequence[Tensor], value: Tensor, gradients: Sequence[Tensor]) -> Tensor:
    """A scalar of a given value whose gradient in each of the trained tensors is the given one."""
    surrogate = torch.stack([(x * gradient).sum() for x, gradient in zip(trained, gradients, strict=True)]).sum()
    return value + (surrogate - surrogate.detach())
