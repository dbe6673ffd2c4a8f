"""The selected checkpoint: a copy of the weights that scored best on the validation examples, saved and loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from bridge_common.errors import UserError
from bridge_common.files import read_json, write_bytes, write_json
from bridge_common.trial_files import SELECTED, SELECTED_RECORD
from bridge_common.user_files import refuse_special
from ray_bridge.bridges.translator import TranslatorModule, build_translator
from ray_bridge.config.spec import JobSpec
from ray_bridge.models.frozen_lm import FrozenLM

Weights = dict[str, Tensor]

WEIGHTS_FILE = "translator.safetensors"
CHECKPOINT = f"{SELECTED}/{WEIGHTS_FILE}"


def copy_weights(weights: Mapping[str, Tensor]) -> Weights:
    """Return a copy of the weights, on their device, that later optimiser steps do not change."""
    return {name: value.detach().clone() for name, value in weights.items()}


@dataclass(kw_only=True)
class Best:
    """The best weights so far on the validation examples.

    Attributes:
        step: the step they are from, -1 before the first evaluation.
        accuracy: their validation accuracy.
        weights: a copy of them, never the weights in training.
    """

    step: int = -1
    accuracy: float = -1.0
    weights: Weights = field(default_factory=dict)

    def offer(self, step: int, accuracy: float, weights: Mapping[str, Tensor]) -> bool:
        """Copy these weights if they are at least as good, and return whether they were.

        Between equals the later ones win: they were trained for longer.
        """
        if accuracy < self.accuracy:
            return False
        self.step, self.accuracy, self.weights = step, accuracy, copy_weights(weights)
        return True


def save_selected(folder: Path, best: Best, models: Mapping[str, Mapping[str, str]]) -> None:
    """Write the weights, and then the record of the step that they are from and of the models that they belong to.

    Args:
        folder: of the selected checkpoint.
        best: the weights.
        models: `ModelIdentity.record()` of "source" and "target".
    """
    write_bytes(folder / WEIGHTS_FILE, save({k: v.cpu().contiguous() for k, v in best.weights.items()}))
    write_json(folder / SELECTED_RECORD, {"step": best.step, "validation_accuracy": best.accuracy, "models": models})


def load_selected(folder: Path, translator: TranslatorModule) -> int:
    """Load the selected weights into a translator and return the step they are from.

    Raises:
        UserError: if the file is incomplete, or of a translator of another shape.
    """
    load_weights(folder / WEIGHTS_FILE, translator)
    return int(read_json(folder / SELECTED_RECORD)["step"])


def load_translator(spec: JobSpec, source: FrozenLM, target: FrozenLM, file: Path) -> TranslatorModule:
    """Return a trained translator between two models in evaluation's arithmetic, from a file of its weights.

    Raises:
        UserError: if the file is incomplete, or of a translator of another shape, or memory does not hold one.
    """
    try:
        translator = build_translator(spec, source, target).eval()
    except RuntimeError as error:
        if "allocate" not in str(error):
            raise
        shape = ", ".join(f"{name}={getattr(spec, name)}" for name in ("hidden_size", "depth", "soft_tokens"))
        raise UserError(f"memory does not hold a translator with {shape}, as {file.parent} asks for") from error
    load_weights(file, translator)
    return translator.to(torch.float64 if spec.eval_dtype == "float64" else torch.float32)


def load_weights(file: Path, translator: TranslatorModule) -> None:
    """Load a file of weights into a translator.

    Raises:
        UserError: if the file is missing or incomplete, or of a translator of another shape.
    """
    refuse_special(file)
    try:
        translator.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{file} does not hold this translator's weights: {reason}") from error
