"""Every way answers with nothing kept of the header: what was read in the turn before is read again."""

import argparse

import pytest
import torch

from benchmarks.peers import WAYS, soft_tokens, take_turn
from benchmarks.random_models import rows_of
from ray_bridge.models.frozen_lm import FrozenLM


@pytest.mark.parametrize("way", WAYS[:2])
def test_a_turn_begins_without_a_kept_header(way: str) -> None:
    torch.set_num_threads(1)
    lm = FrozenLM.load("embedded:target", dtype="float32", device=torch.device("cpu"))
    rows = rows_of(lm, 2, 60, header=40)
    options = argparse.Namespace(batch=2, new_tokens=3)
    with torch.no_grad():
        first, seconds = take_turn(lm, rows, soft_tokens(lm, 2, 4), way, options)
        kept = dict(lm._prefixes)
        again, _ = take_turn(lm, rows, soft_tokens(lm, 2, 4), way, options)
    assert seconds > 0
    assert again == first
    assert len(kept) == (way == "own")
    assert all(lm._prefixes[ids] is not prefix for ids, prefix in kept.items())
