"""Gradients of the losses on completions in bounded memory: micro-batches, one after another.

Gradients are taken of one micro-batch at a time, down to Z and to what reads it in the target if anything does. Between
micro-batches only Z and, for each loss, one accumulated gradient remain, whatever the number of completions. Each loss
is then given back as a scalar whose gradient is the accumulated one, for the backward pass of the whole objective.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.objectives.policy_gradient import Advantages, token_losses
from ray_bridge.objectives.rollouts import Completion


def accumulate_gradients(
    target: FrozenLM,
    soft: SoftContext,
    completions: Sequence[Completion],
    advantages: Advantages,
    temperature: float,
    micro_tokens: int,
) -> tuple[Tensor, list[list[Tensor]]]:
    """Compute the RLOO and the distillation loss of all completions with their gradients.

    Args:
        target: the frozen target.
        soft: Z (q, K, d_t) without gradient, and the adapters that read it.
        completions: sampled from rows of `soft`.
        advantages: of each completion.
        temperature: at which the completions were sampled.
        micro_tokens: most positions of one forward pass, pads included.

    Returns:
        Both losses, summed over tokens, (2,); and for each of them its gradients in Z, (q, K, d_t), and in each of
        `soft.parameters()`.
    """
    dtype = torch.promote_types(soft.tokens.dtype, torch.float32)  # sums in bf16 would lose bits
    all_z, parameters = soft.tokens.to(dtype), soft.parameters()  # (q, K, d_t)
    values = all_z.new_zeros(2)  # (2,)
    gradients = [[torch.zeros_like(x) for x in (all_z, *parameters)] for _ in values]
    for batch in micro_batches(completions, all_z.shape[1], micro_tokens):
        rows = torch.tensor([c.soft_row for c in batch], device=all_z.device)  # (b,)
        z = all_z[rows].requires_grad_()  # (b, K, d_t)
        weights = torch.tensor([advantages[c.key] or 0.0 for c in batch], device=all_z.device)  # (b,)
        losses = token_losses(target, replace(soft.rows(rows), tokens=z), batch, weights, temperature)
        for i, loss in enumerate(losses):
            of_z, *of_parameters = torch.autograd.grad(loss, [z, *parameters], retain_graph=i == 0)  # (b, K, d_t), ...
            gradients[i][0].index_add_(0, rows, of_z)
            for total, gradient in zip(gradients[i][1:], of_parameters, strict=True):
                total.add_(gradient)
            values[i] += loss.detach()
    return values, gradients


def micro_batches(completions: Sequence[Completion], soft_tokens: int, limit: int) -> Iterator[list[Completion]]:
    """Yield batches of completions of similar length.

    Args:
        completions: in any order.
        soft_tokens: K.
        limit: most positions of a batch, pads included; a longer completion makes a batch of its own.
    """

    def length(completion: Completion) -> int:
        row = completion.item.row
        return len(row.before) + soft_tokens + len(row.prompt) + len(completion.tokens)

    batch: list[Completion] = []
    for completion in sorted(completions, key=length, reverse=True):
        if batch and length(batch[0]) * (len(batch) + 1) > limit:
            yield batch
            batch = []
        batch.append(completion)
    if batch:
        yield batch


def scalar_with_gradients(trained: Sequence[Tensor], value: Tensor, gradients: Sequence[Tensor]) -> Tensor:
    """Return a scalar of the given value whose gradient in each trained tensor is the given one."""
    surrogate = torch.stack([(x * gradient).sum() for x, gradient in zip(trained, gradients, strict=True)]).sum()
    return value + (surrogate - surrogate.detach())
