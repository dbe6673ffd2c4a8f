"""Everything a job must keep to go on bit for bit, and the checkpoint that is chosen in the end.

All noise and order follow from seed, step and example, so weights, optimiser, average, and the best so far are all
there is: no generator state can be forgotten.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from bridge_common.files import read_json, write_bytes, write_json
from ray_bridge.bridges.translator import Translator

Weights = dict[str, Tensor]
_FILE = "state.pt"


def copy_weights(weights: Mapping[str, Tensor]) -> Weights:
    """A copy beside the weights, on their device, that later steps do not change."""
    return {name: value.detach().clone() for name, value in weights.items()}


@dataclass(kw_only=True)
class Best:
    """The best weights so far on the validation slice; copies, never the live ones."""

    step: int = -1
    accuracy: float = -1.0
    weights: Weights = field(default_factory=dict)

    def offer(self, step: int, accuracy: float, weights: Mapping[str, Tensor]) -> bool:
        """Copy these weights if they are at least as good (of equals the later, longer trained); says whether."""
        if accuracy < self.accuracy:
            return False
        self.step, self.accuracy, self.weights = step, accuracy, copy_weights(weights)
        return True


@dataclass(kw_only=True)
class Progress:
    """What a checkpoint holds.

    Attributes:
        step: optimiser steps done.
        weights: the translator's.
        optimiser: AdamW's state.
        average: moving average of the weights, empty where there is none.
        best: the best so far.
        seconds: time spent training in all attempts.
    """

    step: int
    weights: Weights
    optimiser: dict[str, Any]
    average: Weights
    best: Best
    seconds: float

    def save(self, folder: Path) -> None:
        """Write into a folder that the caller moves into place whole."""
        torch.save(vars(self) | {"best": vars(self.best)}, folder / _FILE)

    @classmethod
    def load(cls, folder: Path) -> "Progress":
        """Read on the host. The best weights may be the same tensors as the average or the weights."""
        content = torch.load(folder / _FILE, map_location="cpu", weights_only=True)
        return cls(**(content | {"best": Best(**content["best"])}))


def save_selected(folder: Path, best: Best) -> None:
    """Write the chosen checkpoint: weights first, then what they are."""
    write_bytes(folder / "translator.safetensors", save({k: v.cpu().contiguous() for k, v in best.weights.items()}))
    write_json(folder / "selected.json", {"step": best.step, "validation_accuracy": best.accuracy})


def load_selected(folder: Path, translator: Translator) -> int:
    """Load the chosen checkpoint into a translator; returns the step it is from."""
    translator.load_state_dict(load_file(folder / "translator.safetensors"))
    return int(read_json(folder / "selected.json")["step"])
