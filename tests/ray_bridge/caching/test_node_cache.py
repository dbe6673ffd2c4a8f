"""Results that the trials of a node share: computed once, by rank 0, and the same bits for every worker."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ray_bridge.bridges.translator import build_translator
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.presets import tiny
from ray_bridge.distributed import Worker
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.embedding_map import fit_map, shared_embeddings
from ray_bridge.tasks.splits import load_splits
from tests.support.workers import on_two_workers

SMALL: dict[str, Any] = {"soft_tokens": 3, "hidden_size": 16, "depth": 1, "num_heads": 2, "train_examples": 8}


def test_tensors_are_computed_once_for_each_identity(tmp_path: Path) -> None:
    computed: list[str] = []

    def compute(what: str) -> dict[str, Tensor]:
        computed.append(what)
        return {"x": torch.full((2, 3), float(len(computed))), "n": torch.tensor([7], dtype=torch.int64)}

    cache = NodeCache(tmp_path)
    first = cache.tensors("map", ["a"], Worker(), lambda: compute("a"))
    again = NodeCache(tmp_path).tensors("map", ["a"], Worker(), lambda: compute("a"))
    other = cache.tensors("map", ["b"], Worker(), lambda: compute("b"))
    assert computed == ["a", "b"]
    assert torch.equal(first["x"], again["x"])
    assert int(again["n"]) == 7
    assert float(other["x"][0, 0]) == 2
    assert len(list(tmp_path.iterdir())) == 2
    NodeCache(None).tensors("map", ["a"], Worker(), lambda: compute("c"))
    assert computed == ["a", "b", "c"]


@pytest.mark.parametrize("left", [0, 5, 90])
def test_a_damaged_file_is_computed_and_written_again(tmp_path: Path, left: int) -> None:
    def tensors() -> dict[str, Tensor]:
        return NodeCache(tmp_path).tensors("map", "it", Worker(), lambda: {"x": torch.arange(9.0)})

    tensors()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    assert len(whole) > 90
    path.write_bytes(whole[:left])
    assert tensors()["x"].tolist() == [*range(9)]
    assert path.read_bytes() == whole


def fetch(worker: Worker, folder: Path, stored: bool) -> None:
    def compute() -> dict[str, Tensor]:
        assert worker.first, "computed twice"
        return {"x": torch.full((4,), 5.0)}

    tensors = NodeCache(folder / "cache" if stored else None).tensors("map", "it", worker, compute)
    tensors["same"] = worker.broadcast(torch.full((2,), float(worker.rank)))
    save_file(tensors, folder / f"{worker.rank}.safetensors")


@pytest.mark.parametrize("stored", [True, False])
def test_all_workers_get_what_rank_0_computed(stored: bool, tmp_path: Path) -> None:
    on_two_workers(fetch, tmp_path, stored)
    for rank in range(2):
        tensors = load_file(tmp_path / f"{rank}.safetensors")
        assert tensors["x"].tolist() == [5.0] * 4
        assert tensors["same"].tolist() == [0.0, 0.0]


def test_the_map_of_a_pair_is_fitted_once_and_stored_by_both_models_and_method(tmp_path: Path) -> None:
    spec = tiny(**SMALL)
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device("cpu"))
    plain = build_translator(spec, pair.source, pair.target)
    cache, worker = NodeCache(tmp_path), Worker()
    translators = [build_translator(spec, pair.source, pair.target, pair.fit_once(cache, worker)) for _ in range(2)]
    path = next(tmp_path.glob("embedding-map-*.safetensors"))
    assert len(list(tmp_path.iterdir())) == 1
    fitted = fit_map(*shared_embeddings(pair.source, pair.target), spec.geometry_init)
    for translator in translators:
        assert translator.initialisation == plain.initialisation
        assert {k: v.tolist() for k, v in translator.state_dict().items()} == {
            k: v.tolist() for k, v in plain.state_dict().items()
        }
    assert torch.equal(load_file(path)["weight"], fitted.weight.float())
    other = ModelPair.load(spec.replace(geometry_init="ridge"), splits, torch.device("cpu"))
    build_translator(other.spec, other.source, other.target, other.fit_once(cache, worker))
    swapped = spec.replace(source=spec.target, target=spec.source)
    back = ModelPair.load(swapped, splits, torch.device("cpu"))
    build_translator(swapped, back.source, back.target, back.fit_once(cache, worker))
    assert len(list(tmp_path.iterdir())) == 3

    def fails() -> Any:
        raise AssertionError("fitted again")

    stored = pair.fit_once(cache, worker)(fails)
    assert (stored.pairs, stored.held_out_r2) == (fitted.pairs, fitted.held_out_r2)
