"""What trials of a node share: made once, by rank 0, and the same bits for every worker."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ray_bridge.embedding_map import fit_map, shared_embeddings
from ray_bridge.node_cache import NodeCache
from ray_bridge.pairing import Pair
from ray_bridge.presets import tiny
from ray_bridge.tasks.load import load_splits
from ray_bridge.translator import build_translator
from ray_bridge.workers import Worker

SMALL: dict[str, Any] = {"soft_tokens": 3, "hidden_size": 16, "depth": 1, "num_heads": 2, "train_examples": 8}


def test_tensors_are_made_once_for_each_identity(tmp_path: Path) -> None:
    made: list[str] = []

    def compute(what: str) -> dict[str, Tensor]:
        made.append(what)
        return {"x": torch.full((2, 3), float(len(made))), "n": torch.tensor([7], dtype=torch.int64)}

    cache = NodeCache(tmp_path)
    first = cache.tensors("map", ["a"], Worker(), lambda: compute("a"))
    again = NodeCache(tmp_path).tensors("map", ["a"], Worker(), lambda: compute("a"))
    other = cache.tensors("map", ["b"], Worker(), lambda: compute("b"))
    assert made == ["a", "b"]
    assert torch.equal(first["x"], again["x"])
    assert int(again["n"]) == 7
    assert float(other["x"][0, 0]) == 2
    assert len(list(tmp_path.iterdir())) == 2
    NodeCache(None).tensors("map", ["a"], Worker(), lambda: compute("c"))
    assert made == ["a", "b", "c"]


@pytest.mark.parametrize("kept", [True, False])
def test_all_workers_get_what_rank_0_made(kept: bool, tmp_path: Path) -> None:
    code = (
        "import sys, torch, torch.distributed as dist\n"
        "from pathlib import Path\n"
        "from safetensors.torch import save_file\n"
        "from ray_bridge.node_cache import NodeCache\n"
        "from ray_bridge.workers import Worker\n"
        "rank, folder, kept = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == 'True'\n"
        "dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)\n"
        "worker = Worker(rank=rank, world=2)\n"
        "cache = NodeCache(folder / 'cache' if kept else None)\n"
        "def compute():\n"
        "    assert rank == 0, 'made twice'\n"
        "    return {'x': torch.full((4,), 5.0)}\n"
        "found = cache.tensors('map', 'it', worker, compute)\n"
        "found['same'] = worker.same(torch.full((2,), float(rank)))\n"
        "save_file(found, folder / f'{rank}.safetensors')\n"
    )
    command = [sys.executable, "-c", code]
    workers = [subprocess.Popen([*command, str(rank), str(tmp_path), str(kept)]) for rank in range(2)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    for rank in range(2):
        found = load_file(tmp_path / f"{rank}.safetensors")
        assert found["x"].tolist() == [5.0] * 4
        assert found["same"].tolist() == [0.0, 0.0]


def test_the_map_of_a_pair_is_fitted_once_and_kept_by_both_models_and_kind(tmp_path: Path) -> None:
    spec = tiny(**SMALL)
    splits = load_splits(spec)
    pair = Pair.load(spec, splits, torch.device("cpu"))
    plain = build_translator(spec, pair.source, pair.target)
    cache, worker = NodeCache(tmp_path), Worker()
    found = [build_translator(spec, pair.source, pair.target, pair.once(cache, worker)) for _ in range(2)]
    path = next(tmp_path.glob("embedding-map-*.safetensors"))
    assert len(list(tmp_path.iterdir())) == 1
    fitted = fit_map(*shared_embeddings(pair.source, pair.target), spec.geometry_init)
    for translator in found:
        assert translator.facts == plain.facts
        assert {k: v.tolist() for k, v in translator.state_dict().items()} == {
            k: v.tolist() for k, v in plain.state_dict().items()
        }
    assert torch.equal(load_file(path)["weight"], fitted.weight.float())
    other = Pair.load(spec.replace(geometry_init="ridge"), splits, torch.device("cpu"))
    build_translator(other.spec, other.source, other.target, other.once(cache, worker))
    swapped = spec.replace(source=spec.target, target=spec.source)
    back = Pair.load(swapped, splits, torch.device("cpu"))
    build_translator(swapped, back.source, back.target, back.once(cache, worker))
    assert len(list(tmp_path.iterdir())) == 3

    def fails() -> Any:
        raise AssertionError("fitted again")

    kept = pair.once(cache, worker)(fails)
    assert (kept.pairs, kept.held_out_r2) == (fitted.pairs, fitted.held_out_r2)
