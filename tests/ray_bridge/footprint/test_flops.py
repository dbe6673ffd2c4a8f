"""FLOPs by hand on a geometry small enough to count, and against torch's counter on a tiny Llama."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ray_bridge.bridges.geometry_projection import inverse_frequencies
from ray_bridge.bridges.injection import Adapter
from ray_bridge.footprint.flops import adapter_flops, answer_flops, forward_flops, kv_bytes, layer_weights
from ray_bridge.footprint.model_shape import ModelShape
from ray_bridge.models.shape import shape_of
from tests.support.model_pairs import frozen

SIZES = {"vocabulary": 7, "hidden": 4, "layers": 2, "heads": 2, "kv_heads": 1, "head_dim": 2, "intermediate": 3}
SHAPE = ModelShape(name="by hand", kind="llama", parameters=0, context=None, **SIZES)

# Query and output 4 x 4, key and value 4 x 2, gate, up and down 4 x 3.
WEIGHTS = 16 + 16 + 8 + 8 + 3 * 12


def test_a_layer_has_the_weights_of_its_matrices() -> None:
    assert layer_weights(SHAPE) == WEIGHTS
    assert layer_weights(replace(SHAPE, gated=False)) == WEIGHTS - 12


def test_one_token_after_two_attends_to_three() -> None:
    """Two heads of width 2 meet three keys and sum three values, in both layers; the head has 4 x 7 weights."""
    layer = 2 * WEIGHTS + 2 * (2 * 2 * 3) * 2
    assert forward_flops(SHAPE, 1, 2) == 2 * layer
    assert forward_flops(SHAPE, 1, 2, layers=1, logits=1) == layer + 2 * 28


def test_three_tokens_attend_to_six_pairs_of_nine() -> None:
    attention = 2 * (2 * 2) * 2
    assert forward_flops(SHAPE, 3) == 2 * (2 * 3 * WEIGHTS + 6 * attention)
    assert forward_flops(SHAPE, 3, causal=False) == 2 * (2 * 3 * WEIGHTS + 9 * attention)


def test_an_answer_token_by_token_takes_as_much_as_at_once() -> None:
    """A prompt of 5 after 3 cached positions, and 4 tokens, of which the last is not read."""
    steps = forward_flops(SHAPE, 5, 3, logits=1) + sum(forward_flops(SHAPE, 1, 8 + i, logits=1) for i in range(3))
    assert answer_flops(SHAPE, 5, 4, 3) == steps
    assert answer_flops(SHAPE, 5, 0) == forward_flops(SHAPE, 5)


def test_keys_and_values_of_both_layers() -> None:
    assert kv_bytes(SHAPE, 10, 2) == 2 * 2 * (1 * 2) * 10 * 2


@pytest.mark.parametrize("arch", ["llama", "gpt_neox"])
def test_torch_counts_the_same_on_a_tiny_model(arch: str) -> None:
    """With attention as two products over all pairs; embeddings are given, as soft tokens are."""
    from transformers import AutoModelForCausalLM

    lm = frozen(arch, 32)  # type: ignore[arg-type]
    model = AutoModelForCausalLM.from_config(lm.model.config, attn_implementation="eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs_embeds=torch.zeros(1, 11, 32), use_cache=False)
    frequencies = inverse_frequencies(lm)
    assert frequencies is not None
    angles = 2 * 11 * len(frequencies)  # of the rotation, which are a product in transformers
    assert counter.get_total_flops() == forward_flops(shape_of(lm), 11, logits=11, causal=False) + angles


def test_torch_counts_the_same_for_an_adapter() -> None:
    adapter = Adapter(12, 8, 2, 1.0).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        adapter(torch.zeros(1, 5, 12, device="meta"), torch.zeros(1, 3, 12, device="meta"))
    assert counter.get_total_flops() == adapter_flops(12, 8, 3, 5, 1)
