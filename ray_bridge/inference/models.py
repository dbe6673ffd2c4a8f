"""Load the two frozen models of a trained translator, and see that they are those of training."""

from pathlib import Path

import torch

from ray_bridge.inference.checks import check_identity
from ray_bridge.inference.saved import SavedTranslator
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.splits import Splits


def load_models(
    saved: SavedTranslator,
    source: FrozenLM | str | Path | None,
    target: FrozenLM | str | Path | None,
    device: torch.device,
) -> tuple[Splits, ModelPair]:
    """Load source and target, in the arithmetic of evaluation, with the task whose prompts they read.

    Args:
        saved: the translator on disk.
        source: the source if it lies elsewhere than at training, or one that is loaded already.
        target: the same for the target.
        device: where the models go.

    Raises:
        UserError: if a model cannot be loaded, or is not the one of training.
    """
    given = {"source": source, "target": target}
    names = {role: str(model) for role, model in given.items() if isinstance(model, str | Path)}
    splits = saved.splits()
    pair = ModelPair.load(
        saved.spec.replace(**names),
        splits,
        device,
        source=source if isinstance(source, FrozenLM) else None,
        target=target if isinstance(target, FrozenLM) else None,
    )
    for role, expected in saved.identities.items():
        check_identity(role, getattr(pair, role), expected, saved)
    return splits, pair.for_evaluation()
