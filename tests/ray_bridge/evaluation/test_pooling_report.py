"""Diagnostics of attention pooling: numbers on known weights, labels, and the picture that a job leaves."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge_common.files import read_log
from ray_bridge.bridges.translator import build_translator
from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.evaluation.pooling_report import pooling_metrics, pooling_report, token_texts
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.model_pair import ModelPair
from ray_bridge.tasks.splits import load_splits
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.model_pairs import PairFolders


def small(folders: PairFolders, **changes: Any) -> JobSpec:
    return tiny(
        **{"source": folders.source, "target": folders.target, "steps": 1, "eval_every": 1, "batch_size": 2},
        **{"soft_tokens": 2, "hidden_size": 16, "num_heads": 2, "depth": 1, "max_new_tokens": 2},
        **{"train_examples": 4, "validation_examples": 6, "test_examples": 2, "decode_aware": False},
        **{"eval_dtype": "as_trained", "bridge": "dit", "pooling": "attention", **changes},
    )


def test_metrics_of_known_weights() -> None:
    even, single = torch.tensor([0.25, 0.25, 0.25, 0.25, 0]), torch.tensor([0.0, 1, 0, 0, 0])
    mask = torch.tensor([[1, 1, 1, 1, 0]])
    assert pooling_metrics(even[None, None], mask) == pytest.approx(
        {
            **{"pooling/entropy": math.log(4), "pooling/entropy_share": 1, "pooling/question_mass": 1},
            "pooling/entropy_share/head1": 1,
        }
    )
    assert pooling_metrics(single[None, None], mask)["pooling/entropy_share"] == 0
    both = torch.stack([even, single])[None]
    of_both = pooling_metrics(both, mask)
    assert of_both["pooling/entropy_share"] == pytest.approx(0.5)
    assert [of_both[f"pooling/entropy_share/head{i}"] for i in (1, 2)] == pytest.approx([1, 0])
    strayed = torch.tensor([[[0.5, 0, 0, 0, 0.5]]])
    assert pooling_metrics(strayed, mask)["pooling/question_mass"] == 0.5


def test_without_attention_pooling_no_model_reads_anything(folders: PairFolders, tmp_path: Path) -> None:
    spec = small(folders, pooling="mean")
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device("cpu"))
    translator = build_translator(spec, pair.source, pair.target)
    calls: list[torch.nn.Module] = []
    pair.source.layers[0].register_forward_pre_hook(lambda module, _inputs: calls.append(module))
    assert pooling_report(pair, translator, splits.validation, tmp_path / "picture.png") == {}
    assert not calls
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("geometry", [True, False])
def test_weights_and_labels_are_those_of_the_question(folders: PairFolders, geometry: bool, tmp_path: Path) -> None:
    spec = small(folders, geometry_projection=geometry)
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device("cpu"))
    translator = build_translator(spec, pair.source, pair.target)
    items = pair.encoder(splits.validation)
    pooled = translator.pooling_weights(read_source(pair.source, items, -1))
    assert pooled is not None
    weights, mask = pooled
    assert mask.sum(1).min() < mask.shape[1]  # there are pads to be looked at
    torch.testing.assert_close((weights * mask[:, None]).sum(-1), torch.ones(weights.shape[:2]))
    for i, item in enumerate(items):
        texts = token_texts(pair, item)
        assert len(texts) == mask[i].sum()
        spelled = "".join(texts).replace(" ", "")
        assert item.example.question.replace(" ", "") in spelled
    values = pooling_report(pair, translator, splits.validation, tmp_path / "picture.png")
    assert values == pytest.approx(pooling_metrics(weights, mask))


@pytest.mark.parametrize(
    ("bridge", "pooling"), [("dit_xattn", "attention"), ("dit", "mean"), ("resampler", "attention")]
)
def test_a_job_leaves_a_picture_at_every_evaluation(
    folders: PairFolders, bridge: str, pooling: str, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    spec = small(folders, bridge=bridge, pooling=pooling)
    Trainer(spec, tiny_run(workers=1), tmp_path, LocalSession(tmp_path), None).run()
    events = read_log(tmp_path / "events.jsonl")
    named = [event["path"] for event in events if event["kind"] == "artifact" and "/pooling-" in event["path"]]
    logged = [event["step"] for event in events if "pooling/entropy" in event.get("values", {})]
    pools = (bridge, pooling) == ("dit_xattn", "attention")
    assert named == (["diagnostics/pooling-000000.png", "diagnostics/pooling-000001.png"] if pools else [])
    assert logged == ([0, 1] if pools else [])
    assert all((tmp_path / path).read_bytes().startswith(b"\x89PNG") for path in named)
