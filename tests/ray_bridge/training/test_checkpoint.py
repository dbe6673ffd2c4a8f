"""A checkpoint that cannot be written says why."""

import errno
from pathlib import Path

import pytest
import torch

from ray_bridge.evaluation.selection import Best
from ray_bridge.training.checkpoint import TrainingState


def test_a_checkpoint_that_does_not_fit_says_that_the_disk_is_full(disk: Path) -> None:
    weights = {"large": torch.zeros(3 << 20)}  # 12 MiB on a disk of 8
    state = TrainingState(step=1, weights=weights, optimiser={}, average={}, best=Best(), seconds=0.0)
    with pytest.raises(OSError, match="No space left on device") as raised:
        state.save(disk)
    assert raised.value.errno == errno.ENOSPC
