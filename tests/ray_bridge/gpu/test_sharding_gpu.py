"""On two GPUs: a target in parts against the whole one, and captured passes and decode steps with their collectives."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from ray_bridge.distributed import Worker
from ray_bridge.generation.eager import decode_eager
from ray_bridge.generation.graphed import decode_graphed
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.gradient_accuracy import judge_gradients
from ray_bridge.models.sharding.group import ShardGroup
from tests.ray_bridge.gpu.test_cuda_graphs_gpu import train
from tests.ray_bridge.models.sharding.test_shards_equal_whole import rows_of, soft_of
from tests.support.model_pairs import PairFolders, make_pair, save_checkpoint

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs"),
]


def measure(lm: FrozenLM) -> dict[str, Any]:
    verdict, statistics = judge_gradients(lm), DecodingStatistics()
    rows = [row.without_answer() for row in rows_of(lm, 16)]
    texts = decode_graphed(lm, rows, None, 96, statistics=statistics)
    z = soft_of(lm, 1).detach().to(lm.device, lm.dtype).requires_grad_()
    mask = torch.ones(1, z.shape[1], dtype=torch.long, device=lm.device)
    states = lm.hidden(z, mask, mask.cumsum(-1) - 1)
    states.square().sum().backward()
    assert z.grad is not None
    return {
        "fused": lm.body is not None,
        "gradients": verdict is not None and verdict.accurate,
        "captured": statistics.captured,
        "texts": texts,
        "eager": decode_eager(lm, rows, None, 96),
        "states": states.detach().cpu(),
        "gradient": z.grad.cpu(),
    }


def join(rank: int, place: Path) -> Worker:
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    torch.distributed.init_process_group(
        "nccl", init_method=f"file://{place}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    return Worker(rank=rank, world=2, device=device, shards=2)


def part(rank: int, folder: str, place: Path) -> None:
    group, device = ShardGroup.of(join(rank, place)), torch.device("cuda", rank)
    lm = FrozenLM.load(folder, dtype="float32", device=device, shards=group)
    torch.save(measure(lm), place / f"{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_gpus_equal_one(tmp_path: Path) -> None:
    folder = str(save_checkpoint(tmp_path / "model", "llama", width=128, kv_heads=2))
    alone = measure(FrozenLM.load(folder, dtype="float32", device="cuda:0"))
    torch.multiprocessing.spawn(part, (folder, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for found in (first, second):
        assert found["fused"]
        assert found["gradients"]
        assert found["captured"] > 0
        assert found["texts"] == found["eager"] == alone["texts"]
        torch.testing.assert_close(found["states"], alone["states"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found["gradient"], alone["gradient"], rtol=1e-3, atol=1e-3)
    assert torch.equal(first["gradient"], second["gradient"])


def train_in_parts(rank: int, pair: PairFolders, place: Path) -> None:
    worker, found = join(rank, place), {}
    for position in ("first", "before_question"):
        for graphed in (False, True):
            folder = place / f"{position}-{graphed}"
            models: dict[str, Any] = {"source": pair.source, "target": pair.target, "target_shards": 2}
            losses, job = train(folder, worker, position, graphed=graphed, steps=14, **models)
            graphs = {name: len(calls.graphs) for name, calls in job.passes.graphs.items()}
            job.passes.release()
            found[position, graphed] = {"losses": losses, "graphs": graphs, "weights": job.translator.state_dict()}
            slow = job.pair.target.slow_paths()
            del job
    torch.save({"trained": found, "slow": slow}, place / f"{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()  # waits for ever for a graph that holds its communicator


def test_a_target_in_parts_trains_captured_as_eagerly(tmp_path: Path) -> None:
    pair = make_pair(tmp_path / "pair", target_width=128, target_kv_heads=2)
    torch.multiprocessing.spawn(train_in_parts, (pair, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", map_location="cpu") for rank in range(2))
    assert first["slow"] == ""
    for position in ("first", "before_question"):
        eager, captured = (first["trained"][position, graphed] for graphed in (False, True))
        assert captured["graphs"]["student"] > 0
        assert eager["graphs"]["student"] == 0
        assert captured["losses"][::2] == pytest.approx(eager["losses"][::2], rel=1e-4)
        assert captured["losses"][1::2] == pytest.approx(eager["losses"][1::2], rel=1e-2)  # gradient norms
        for name, value in captured["weights"].items():
            torch.testing.assert_close(value, eager["weights"][name], rtol=1e-3, atol=1e-5)
            assert torch.equal(value, second["trained"][position, True]["weights"][name]), name
