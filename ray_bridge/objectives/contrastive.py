"""InfoNCE (van den Oord et al. 2018): soft tokens must pick their own question among all questions of the step."""

import torch
from torch.nn import functional as F

from ray_bridge.objectives.step_context import StepContext, Term


def contrast(step: StepContext) -> Term:
    """Return the cross-entropy of picking the own question among those of all workers, summed over rows.

    The score is the cosine of pooled Z and pooled question embeddings over `contrast_temperature`. Question embeddings
    are frozen, so they are gathered without gradient.
    """
    z = F.normalize(step.soft.mean(1), dim=-1)  # (b, d_t)
    questions = F.normalize(step.question_slots.mean(1), dim=-1)  # (b, d_t)
    all_questions = step.worker.gather_rows(questions)  # (B, d_t)
    similarity = z @ all_questions.T / step.spec.contrast_temperature  # (b, B)
    own = step.worker.rank * len(z) + torch.arange(len(z), device=z.device)  # (b,)
    return Term(total=F.cross_entropy(similarity, own, reduction="sum"), count=len(z))
