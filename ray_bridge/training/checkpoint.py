"""The state from which a killed job continues bit for bit on CPUs.

All noise and the order of examples are functions of seed, step and example. So weights, optimiser, average and the best
weights so far are the whole state: there is no random generator whose state could be forgotten.
"""

import logging
import pickle
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ray_bridge.evaluation.selection import Best, Weights

_FILE = "state.pt"
logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class TrainingState:
    """Content of one checkpoint. The attributes' names are the keys of the file.

    Attributes:
        step: optimiser steps done.
        weights: the translator's.
        optimiser: AdamW's state.
        average: moving average of the weights, empty if there is none.
        best: the best weights so far on the validation examples.
        seconds: time spent training, over all attempts.
        scaler: state of the loss scaling under float16, empty without.
    """

    step: int
    weights: Weights
    optimiser: dict[str, Any]
    average: Weights
    best: Best
    seconds: float
    scaler: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write state.pt into a folder. The file may be incomplete until this returns; see `write_folder`.

        Raises:
            OSError: it cannot be written, as on a full disk.
        """
        try:
            with (folder / _FILE).open("wb") as file:
                torch.save(vars(self) | {"best": vars(self.best)}, file)
        except RuntimeError as error:  # torch only says where its file ended, given a path not even why
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise

    @classmethod
    def load(cls, folder: Path) -> "TrainingState":
        """Read state.pt into host memory. The best weights may share their tensors with the average or the weights.

        Raises:
            DamagedError: the file is missing or incomplete.
        """
        try:
            content = torch.load(folder / _FILE, map_location="cpu", weights_only=True)
            return cls(**(content | {"best": Best(**content["best"])}))
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, LookupError, TypeError) as error:
            raise DamagedError(f"{folder / _FILE}: {' '.join(str(error).split())[:200]}") from error

    @classmethod
    def load_newest(cls, folders: Iterable[Path]) -> "TrainingState | None":
        """Read the first checkpoint that is whole, and warn of those before it; None if there is none.

        Args:
            folders: checkpoints, the newest first. Any of them continues with the same numbers.
        """
        for folder in folders:
            try:
                return cls.load(folder)
            except DamagedError as error:
                logger.warning("a checkpoint is damaged, so training goes on from an earlier one: %s", error)
        return None


class DamagedError(Exception):
    """A checkpoint cannot be read."""
