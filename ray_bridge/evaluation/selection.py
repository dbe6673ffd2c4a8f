"""The checkpoint that validation chooses: kept by value while training goes on, then saved and loaded exactly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor

from bridge_common.files import read_json, write_bytes, write_json
from ray_bridge.bridges.translator import Translator

Weights = dict[str, Tensor]


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


def save_selected(folder: Path, best: Best) -> None:
    """Write the chosen checkpoint: weights first, then what they are."""
    write_bytes(folder / "translator.safetensors", save({k: v.cpu().contiguous() for k, v in best.weights.items()}))
    write_json(folder / "selected.json", {"step": best.step, "validation_accuracy": best.accuracy})


def load_selected(folder: Path, translator: Translator) -> int:
    """Load the chosen checkpoint into a translator; returns the step it is from."""
    translator.load_state_dict(load_file(folder / "translator.safetensors"))
    return int(read_json(folder / "selected.json")["step"])
