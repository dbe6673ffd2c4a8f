"""Logits are those of the checkpoint's own forward pass, whose head some architectures scale or cap."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from bridge_common.errors import UserError
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.head import check_logits, logits_of


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [1.0, -2.0]),
        ({"logit_scale": 0.5}, [0.5, -1.0]),
        ({"logits_scaling": 4.0}, [0.25, -0.5]),
        ({"final_logit_softcapping": 2.0}, [2 * 0.46211716, -2 * 0.76159416]),
    ],
)
def test_a_head_scales_and_caps_as_its_configuration_says(settings: dict[str, float], expected: list[float]) -> None:
    logits = logits_of(nn.Identity(), SimpleNamespace(**settings), torch.tensor([1.0, -2.0], dtype=torch.bfloat16))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, torch.tensor(expected))


def test_other_logits_than_the_models_own_are_refused_by_its_precision() -> None:
    lm = FrozenLM.load("embedded:target")
    ids = torch.tensor([[lm.bos, 7, 9]])
    own: Tensor = lm.logits(lm.states(ids)).detach()
    off = own + 0.01 * own.abs().max()
    with torch.no_grad():
        check_logits(lm.model, lm.name, ids, own)
        with pytest.raises(UserError, match=r"^target: a \w+ does not compute its logits as its head on its last "):
            check_logits(lm.model, lm.name, ids, off)
        check_logits(lm.model.to(torch.bfloat16), lm.name, ids, off)
