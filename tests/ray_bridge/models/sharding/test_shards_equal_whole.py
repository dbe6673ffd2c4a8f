"""A model in parts computes what the whole model does: logits, the gradient to soft tokens, states, and text."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bridge_common.errors import UserError
from ray_bridge.distributed import Worker
from ray_bridge.generation.eager import decode_eager
from ray_bridge.generation.graphed import decode_graphed
from ray_bridge.generation.sampling import Sampling
from ray_bridge.generation.verify import judge_decoding
from ray_bridge.inputs.layout import assemble_after_prefix
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.gradient_accuracy import judge_gradients
from ray_bridge.models.sharding.group import ShardGroup
from ray_bridge.models.sharding.layers import local_bytes, shard_model
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.models.windows import attends_fully
from ray_bridge.noise import generator
from tests.support.architectures import exact_lm, tokenizer_of
from tests.support.workers import on_workers

pytestmark = pytest.mark.slow
FAMILIES = ("llama", "mistral_windowed", "qwen2", "qwen3", "gemma2", "gemma3")


def whole(name: str) -> FrozenLM:
    return exact_lm(name, num_key_value_heads=2)


def in_parts(name: str, group: ShardGroup | None) -> FrozenLM:
    """Return the model of that name; of a group, each process keeps its part of it."""
    lm = whole(name)
    if group is None:
        return lm
    return FrozenLM(shard_model(lm.model, name, group), tokenizer_of(name), name, group)


@contextmanager
def fused(lm: FrozenLM) -> Iterator[FrozenLM]:
    assert lm.fuse().body is not None
    for verdict in (judge_gradients(lm), judge_decoding(lm)):
        assert verdict is not None
        assert verdict.accurate
    assert lm.body is not None
    try:
        yield lm
    finally:
        lm.body = None


def rows_of(lm: FrozenLM, header: int = 0) -> list[Row]:
    """Rows of different lengths, longer than the windows, that share a header."""
    shared = (lm.bos, *range(20, 20 + max(0, header - 1)))
    return [
        Row(before=shared, prompt=tuple(range(50 + i, 80 + 3 * i)), answer=(70, 71 + i, lm.eos), header=header)
        for i in range(3)
    ]


def soft_of(lm: FrozenLM, rows: int) -> Tensor:
    z = torch.randn(rows, 5, lm.hidden_size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return (z * lm.embedding_rms).requires_grad_()


def trained(lm: FrozenLM, *, recompute: bool = False, header: int = 0) -> dict[str, Tensor]:
    """Logits of the answers and the gradient of their likelihood to the soft tokens."""
    rows = rows_of(lm, header)
    z = soft_of(lm, len(rows))
    batch = assemble_after_prefix(lm, rows, SoftContext(tokens=z), pad="right")
    hidden = lm.hidden(batch.embeds, batch.mask, batch.positions, prefix=batch.prefix, recompute=recompute)
    logits = lm.logits(hidden[batch.answers.rows, batch.answers.at])
    torch.nn.functional.cross_entropy(logits, batch.answers.tokens).backward()
    assert z.grad is not None
    return {"logits": logits.detach(), "gradient": z.grad}


def written(lm: FrozenLM, way: str, *, header: int, sampled: bool) -> list[list[int]]:
    rows = [row.without_answer() for row in rows_of(lm, header)]
    soft = SoftContext(tokens=soft_of(lm, len(rows)).detach())
    sampling = Sampling(temperature=1.0, generators=[generator("t", i) for i in range(3)]) if sampled else None
    if way == "eager":
        return decode_eager(lm, rows, soft, 24, sampling)
    return decode_graphed(lm, rows, soft, 24, sampling)


def measure(lm: FrozenLM) -> dict[str, Any]:
    found: dict[str, Any] = {f"eager {h}": trained(lm, header=h) for h in (0, 16)}
    found["eager again"] = trained(lm, recompute=True)
    found["layer"] = {"states": lm.capture(torch.arange(30, 70)[None], torch.ones(1, 40, dtype=torch.long), 2)}
    texts = {f"{h} {s}": written(lm, "eager", header=h, sampled=s) for h in (0, 16) for s in (False, True)}
    if attends_fully(lm.config):  # else its cache on a GPU is that of fused layers
        texts |= {f"transformers {h}": written(lm, "graphed", header=h, sampled=False) for h in (0, 16)}
    if not lm.name.startswith("gemma2"):
        with fused(lm):
            found |= {f"fused {h}": trained(lm, header=h) for h in (0, 16)}
            found["fused again"] = trained(lm, recompute=True)
            texts |= {f"fused {h} {s}": written(lm, "graphed", header=h, sampled=s) for h in (0, 16) for s in (0, 1)}
    return found | {"texts": texts}


def part(worker: Worker, names: tuple[str, ...], place: Path) -> None:
    own = Worker(rank=worker.rank, world=worker.world, shards=2)
    group, rows = ShardGroup.of(own), own.data_parallel
    found: dict[str, Any] = {
        "share": list(rows.share(3)),
        "sum": rows.sum(torch.full((2,), 3.0)).tolist(),
        "gather": rows.gather(worker.rank),
        "rows": rows.gather_rows(torch.full((1, 2), float(worker.rank))).tolist(),
    }
    for name in names:
        lm = in_parts(name, group)
        found[name] = measure(lm) | {"bytes": local_bytes(lm.model)}
    torch.save(found, place / f"{worker.rank}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes finds that hold the parts."""
    place = tmp_path_factory.mktemp("parts")
    on_workers(2, part, FAMILIES, place)
    return [torch.load(place / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_gradients_and_text_are_those_of_the_whole_model(results: list[dict[str, Any]], name: str) -> None:
    alone = measure(whole(name))
    for found in results:
        for way in alone.keys() - {"texts"}:
            for what, value in alone[way].items():
                assert float(value.norm()) > 1e-6
                torch.testing.assert_close(found[name][way][what], value, rtol=1e-9, atol=1e-9)
        assert found[name]["texts"] == alone["texts"]
    assert len({tuple(map(tuple, text)) for text in alone["texts"].values()}) > 1


@pytest.mark.parametrize("name", FAMILIES)
def test_the_gradient_has_the_same_bits_on_all_processes(results: list[dict[str, Any]], name: str) -> None:
    first, second = (found[name] for found in results)
    for way in first.keys() - {"texts", "bytes"}:
        assert all(torch.equal(first[way][what], second[way][what]) for what in first[way])


def test_a_group_counts_once_and_reads_all_rows(results: list[dict[str, Any]]) -> None:
    for found in results:
        assert (found["share"], found["sum"]) == ([0, 1, 2], [3.0, 3.0])
        assert (found["gather"], found["rows"]) == ([0], [[0.0, 0.0]])


def test_a_process_holds_half_of_the_layers(results: list[dict[str, Any]]) -> None:
    lm = whole("llama")
    of_layers = sum(p.numel() * 8 for name, p in lm.layers.named_parameters() if p.dim() == 2)
    everything = sum(p.numel() * 8 for p in lm.model.parameters())
    assert [found["llama"]["bytes"] for found in results] == [everything - of_layers // 2] * 2


def refuse(worker: Worker, place: Path) -> None:
    group = ShardGroup.of(Worker(rank=worker.rank, world=worker.world, shards=2))
    messages = []
    for lm in (exact_lm("llama"), exact_lm("phi3")):
        with pytest.raises(UserError) as refused:
            shard_model(lm.model, lm.name, group)  # type: ignore[arg-type]
        messages.append(str(refused.value))
    torch.save(messages, place / f"{worker.rank}.pt")


def test_a_model_that_cannot_be_cut_is_refused_in_one_line(tmp_path: Path) -> None:
    on_workers(2, refuse, tmp_path)
    assert torch.load(tmp_path / "1.pt") == [
        "target_shards=2: the 1 key and value heads of llama do not divide by it; it can be 1",
        "target_shards=2: the layers of phi3 (phi3) cannot be cut; use target_shards=1, or a model of type gemma2, "
        "gemma3_text, llama, mistral, qwen2, qwen3",
    ]
