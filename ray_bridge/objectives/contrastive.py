"""InfoNCE (van den Oord et al. 2018): a row's soft tokens must tell its question from all others of the step."""

import torch
from torch.nn import functional as F

from ray_bridge.objectives.step_context import StepContext, Term


def contrast(step: StepContext) -> Term:
    """Cross-entropy of picking the own question among the questions of all workers, summed over rows.

    Pooled Z against pooled question embeddings, by cosine over a temperature. Questions are frozen embeddings, so
    they are gathered without gradient.
    """
    z = F.normalize(step.soft.mean(1), dim=-1)  # (b, d_t)
    questions = F.normalize(step.question_slots.mean(1), dim=-1)  # (b, d_t)
    everyone = step.worker.gather_rows(questions)  # (B, d_t)
    similarity = z @ everyone.T / step.spec.contrast_temperature  # (b, B)
    own = step.worker.rank * len(z) + torch.arange(len(z), device=z.device)  # (b,)
    return Term(total=F.cross_entropy(similarity, own, reduction="sum"), count=len(z))
