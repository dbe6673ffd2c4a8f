"""On two GPUs: a target in parts against the whole one, and captured decode steps with their collectives."""

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
from tests.ray_bridge.models.sharding.test_shards_equal_whole import rows_of, soft_of
from tests.support.model_pairs import save_checkpoint

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


def part(rank: int, folder: str, place: Path) -> None:
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    torch.distributed.init_process_group(
        "nccl", init_method=f"file://{place}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    group = ShardGroup.of(Worker(rank=rank, world=2, device=device, shards=2))
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
