"""Everything a job must keep to go on bit for bit, and the checkpoint that is chosen in the end.

All noise and order follow from seed, step and example, so weights, optimiser, average, and the best so far are all
there is: no generator state can be forgotten.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ray_bridge.evaluation.selection import Best, Weights

_FILE = "state.pt"


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
