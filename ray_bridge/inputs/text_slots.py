"""A text as data for K soft tokens: its embeddings in the target, resampled to K slots."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ray_bridge.config.spec import JobSpec
from ray_bridge.gpu.transfer import send
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.inputs.resample import resample
from ray_bridge.models.frozen_lm import FrozenLM


@torch.no_grad()
def text_slots(target: FrozenLM, texts: Sequence[Sequence[int]], count: int) -> Tensor:
    """Embed token ids with the target, scale to unit (median) RMS and resample to K positions.

    Args:
        target: the model whose embeddings they are.
        texts: B texts, as token ids.
        count: K.

    Returns:
        (B, K, d_t).
    """
    rows = [target.embed(send(torch.tensor(ids), target.device)).float() for ids in texts]
    return torch.stack([resample(row / target.embedding_rms, count) for row in rows])


def teacher_slots(spec: JobSpec, target: FrozenLM, items: Sequence[Encoded]) -> Tensor:
    """Return the slots of the text that `flow_teacher` names, question or gold answer, (B, K, d_t)."""
    answers = spec.flow_teacher == "answer"
    texts = [item.text_row.answer if answers else item.question_ids for item in items]
    return text_slots(target, texts, spec.soft_tokens)
