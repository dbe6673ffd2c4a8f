"""Diagnostics of cross-attention: weights that are those of the forward pass, numbers, and the picture of a job."""

import math
from pathlib import Path

import pytest
import torch

from bridge_common.files import read_log
from ray_bridge.bridges.layers import Attention
from ray_bridge.bridges.translator import build_translator
from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.evaluation.cross_attention_report import cross_attention_report, cross_metrics
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.model_pair import ModelPair
from ray_bridge.noise import normal
from ray_bridge.tasks.splits import load_splits
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.ray_bridge.evaluation.test_pooling_report import small
from tests.support.model_pairs import PairFolders


def test_weights_are_those_with_which_the_context_is_read() -> None:
    torch.manual_seed(0)
    attention = Attention(8, 2).double()
    x, context = torch.randn(2, 3, 8).double(), torch.randn(2, 5, 8).double()
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    weights = attention.weights(x, context, mask)  # (B, h, K, S)
    assert weights[1, ..., 3:].abs().max() == 0
    values = attention.key_value(context)[..., 8:].unflatten(-1, (2, 4)).transpose(1, 2)  # (B, h, S, w/h)
    read = attention.out((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(read, attention(x, context, mask))


def test_metrics_of_known_weights() -> None:
    even, single = torch.tensor([0.25, 0.25, 0.25, 0.25, 0]), torch.tensor([0.0, 1, 0, 0, 0])
    mask = torch.tensor([[1, 1, 1, 1, 0]])
    first = torch.stack([torch.stack([even, even]), torch.stack([even, single])])[None]  # (B, h, K, S)
    second = torch.stack([torch.stack([single, single])] * 2)[None]
    assert cross_metrics([first, second], mask) == pytest.approx(
        {
            **{"cross/entropy": 3 / 8 * math.log(4), "cross/entropy_share": 3 / 8},
            **{"cross/entropy_share/block1_head1": 1, "cross/entropy_share/block1_head2": 0.5},
            **{"cross/entropy_share/block2_head1": 0, "cross/entropy_share/block2_head2": 0},
        },
        abs=1e-6,
    )


@pytest.mark.parametrize("bridge", ["dit_xattn", "resampler", "dit"])
def test_every_block_is_reported(folders: PairFolders, bridge: str, tmp_path: Path) -> None:
    spec = small(folders, bridge=bridge, pooling="mean").replace(depth=2, guidance_scale=2.0)
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device("cpu"))
    translator = build_translator(spec, pair.source, pair.target)
    picture = tmp_path / "picture.png"
    values = cross_attention_report(pair, translator, splits.validation, picture)
    if bridge == "dit":
        assert (values, picture.exists()) == ({}, False)
        return
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert {f"cross/entropy_share/block{i}_head{j}" for i in (1, 2) for j in (1, 2)} <= set(values)
    items = pair.encoder(splits.validation)
    source = read_source(pair.source, items, -1)
    noise = normal((2, pair.target.hidden_size), [("evaluation", 0, item.example.id) for item in items])
    before = translator(source, noise)
    weights, mask = translator.cross_weights(source, noise)
    assert torch.equal(translator(source, noise), before), "no hook stays"
    assert values == pytest.approx(cross_metrics([block.detach() for block in weights], mask))
    for block in weights:
        torch.testing.assert_close(block.sum(-1), torch.ones(len(items), 2, 2))
        assert (block * (mask == 0)[:, None, None]).abs().max() == 0


def test_a_job_records_entropy_at_every_evaluation_and_one_picture(folders: PairFolders, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    spec = small(folders, bridge="dit_xattn", pooling="mean")
    Trainer(spec, tiny_run(workers=1), tmp_path, LocalSession(tmp_path), None).run()
    events = read_log(tmp_path / "events.jsonl")
    logged = [event["step"] for event in events if "cross/entropy_share" in event.get("values", {})]
    named = [event["path"] for event in events if event["kind"] == "artifact" and "diagnostics" in event["path"]]
    assert (logged, named) == ([0, 1], ["diagnostics/cross-attention-000001.png"])
    assert (tmp_path / named[0]).read_bytes().startswith(b"\x89PNG")
    assert tiny().bridge == "dit_xattn"
