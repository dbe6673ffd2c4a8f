"""The two losses on sampled completions: RLOO, and distillation from the text-only teacher.

RLOO (REINFORCE leave-one-out, Ahmadian et al. 2024, "Back to Basics") makes completions more likely that were rewarded
above the question's other completions. On-policy distillation (Agarwal et al. 2024) keeps the target with soft tokens
close to the target with the text alone, on the tokens that were sampled. Both are of the policy that was sampled, at
its temperature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ray_bridge.distributed import Worker
from ray_bridge.inputs.layout import assemble_after_prefix
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.objectives.answer_kl import kl_divergence
from ray_bridge.objectives.rollouts import Completion, CompletionKey

Advantages = Mapping[CompletionKey, float | None]
"""Advantage of each completion, None in groups of equal rewards, which are not reinforced."""


def leave_one_out(rewards: Sequence[float]) -> list[float] | None:
    """Return RLOO's advantages of one question's completions: each reward minus the mean of the others.

    None if all rewards are equal: then no completion is better than another.
    """
    if max(rewards) == min(rewards):
        return None
    total, others = sum(rewards), len(rewards) - 1
    return [reward - (total - reward) / others for reward in rewards]


def compute_advantages(
    worker: Worker, completions: Sequence[Completion], samples: int
) -> tuple[Advantages, dict[str, float]]:
    """Compute advantages within each question's group of completions, which may be spread over workers.

    Args:
        worker: gathers the rewards of all workers.
        completions: those of this worker.
        samples: G, completions of each question.

    Returns:
        The advantages of the completions of all workers; and the mean reward, the share of groups with equal rewards
        and the mean number of tokens, under the names by which they are recorded.
    """
    rewards: dict[CompletionKey, float] = {}
    lengths: list[int] = []
    for part in worker.gather([(c.key, c.reward, len(c.tokens)) for c in completions]):
        for key, reward, length in part:  # type: ignore[attr-defined]
            rewards[key] = reward
            lengths.append(length)
    advantages: dict[CompletionKey, float | None] = {}
    questions = sorted({key.question for key in rewards})
    equal_groups = 0
    for question in questions:
        keys = [CompletionKey(question=question, sample=g) for g in range(samples)]
        group = leave_one_out([rewards[key] for key in keys])
        equal_groups += group is None
        advantages.update((key, None if group is None else group[key.sample]) for key in keys)
    metrics = {
        "decode/reward_mean": sum(rewards.values()) / len(rewards),
        "decode/frac_zero_advantage": equal_groups / len(questions),
        "decode/tokens": sum(lengths) / len(lengths),
    }
    return advantages, metrics


def token_losses(
    target: FrozenLM,
    soft: SoftContext,
    completions: Sequence[Completion],
    advantages: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Compute both losses of completions, summed over their tokens, with gradient in Z and the adapters.

    The frozen target's layers are computed again in the backward pass, so that only their inputs are kept.

    Args:
        target: the frozen target.
        soft: Z of each completion, (b, K, d_t), and the adapters that read it; the teacher gets neither.
        completions: b of them.
        advantages: (b,), 0 for those that are not reinforced.
        temperature: at which the completions were sampled.

    Returns:
        RLOO: the sum of advantage x negative log-likelihood; distillation: the sum of KL(teacher || student).

    Raises:
        ValueError: if student and teacher do not read the same tokens.
    """
    rows = [replace(c.item.row, answer=c.tokens) for c in completions]
    student = assemble_after_prefix(target, rows, soft, pad="right")
    hidden = target.hidden(
        student.embeds,
        student.mask,
        student.positions,
        prefix=student.prefix,
        context=student.context,
        right_padded=True,
        recompute=True,
    )  # (b, L, d_t)
    at_rows, tokens = student.answers.rows, student.answers.tokens  # (N,) each
    logits = target.logits(hidden[at_rows, student.answers.at]) / temperature  # (N, V)
    with torch.no_grad():
        texts = [replace(c.item.text_row, answer=c.tokens) for c in completions]
        teacher = assemble_after_prefix(target, texts, None, pad="right")
        if student.answers.ids != teacher.answers.ids:
            raise ValueError("student and teacher do not read the same completions")
        hidden = target.hidden(
            teacher.embeds, teacher.mask, teacher.positions, prefix=teacher.prefix, right_padded=True
        )  # (b, L', d_t)
        teacher_logits = target.logits(hidden[at_rows, teacher.answers.at]) / temperature  # (N, V)
    nll = F.cross_entropy(logits, tokens, reduction="none")  # (N,)
    return (advantages[at_rows] * nll).sum(), kl_divergence(teacher_logits, logits).sum()
