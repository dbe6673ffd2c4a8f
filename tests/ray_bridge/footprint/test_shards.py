"""How large a part of a model is, into how many parts its layers can be cut, and what a worker then needs."""

from typing import Any

import pytest

from bridge_common.errors import UserError
from ray_bridge.config.presets import paper, paper_run
from ray_bridge.footprint.estimate import estimate_memory
from ray_bridge.footprint.lengths import assume
from ray_bridge.footprint.shards import check_shards, divisors, part_of
from tests.ray_bridge.footprint.test_estimate import LLAMA_8B, LLAMA_70B, MISTRAL_7B, llama


def test_a_part_has_its_share_of_the_layers_and_whole_embeddings() -> None:
    assert part_of(LLAMA_70B, 1) is LLAMA_70B
    part = part_of(LLAMA_70B, 4)
    assert (part.heads, part.kv_heads, part.intermediate) == (16, 2, 7168)
    assert (part.hidden, part.layers, part.head_dim, part.vocabulary) == (8192, 80, 128, 128_256)
    embeddings = 2 * 128_256 * 8192
    assert part.parameters == embeddings + (LLAMA_70B.parameters - embeddings) // 4
    assert part.kv_elements(100) == LLAMA_70B.kv_elements(100) // 4


@pytest.mark.parametrize(
    ("changes", "shards", "message"),
    [
        ({"heads": 30}, 4, "the 30 attention heads of llama do not divide by it; it can be 1, 2"),
        ({"kv_heads": 1}, 2, "the 1 key and value heads of llama do not divide by it; it can be 1"),
        ({"intermediate": 14_338}, 4, "the 14,338 features of the MLP of llama do not divide by it; it can be 1, 2"),
        (
            {"kind": "gpt_neox"},
            2,
            r"the layers of llama \(gpt_neox\) cannot be cut; use target_shards=1",
        ),
    ],
)
def test_parts_that_are_not_alike_are_refused(changes: dict[str, Any], shards: int, message: str) -> None:
    with pytest.raises(UserError, match=f"target_shards={shards}: {message}"):
        check_shards(llama(**changes), shards)
    check_shards(llama(**changes), 1)


def test_into_how_many_parts() -> None:
    assert divisors(LLAMA_70B) == [1, 2, 4, 8]
    assert divisors(llama(kind="phi3")) == [1]


def test_a_70b_target_fits_on_four_gpus_of_80_gb() -> None:
    spec = paper(soft_tokens=64, target_shards=4)
    lengths = (assume(spec), assume(spec))
    estimate = estimate_memory(spec, paper_run(), MISTRAL_7B, LLAMA_70B, lengths, capacity=80e9)
    assert estimate.stays["target"] == pytest.approx(38.4e9, rel=0.01)
    assert estimate.stays["source"] == pytest.approx(14.5e9, rel=0.01)
    assert estimate.total < 0.94 * 80e9


def test_a_group_reads_more_rows_with_less_of_each_layer() -> None:
    whole = paper(soft_tokens=64)
    parts = whole.replace(target_shards=2)
    lengths = (assume(whole), assume(whole))
    first, second = (
        estimate_memory(spec, paper_run(recompute_tokens=1 << 30), MISTRAL_7B, LLAMA_8B, lengths).passing[
            "a training step"
        ]
        for spec in (whole, parts)
    )
    assert first < second < 2 * first  # twice the rows; norms of whole states, and half of what else a layer keeps
