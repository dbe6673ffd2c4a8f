"""A process loads its own slices of a checkpoint, in any files and dtype; what is wrong with it is one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bridge_common.errors import UserError
from ray_bridge.models.sharding.group import ShardGroup
from ray_bridge.models.sharding.layers import local_bytes, shard_model
from ray_bridge.models.sharding.weights import load_part
from ray_bridge.models.special_tokens import special_tokens
from ray_bridge.models.weights import load_model
from tests.support.model_pairs import Arch, make_model, make_tokenizer, save_checkpoint

CPU = torch.device("cpu")


def group_of(rank: int, size: int = 2) -> ShardGroup:
    """Return a group for what needs no communication."""
    return ShardGroup(rank=rank, size=size, first=0, device=CPU)


def load(folder: Path, rank: int = 0, size: int = 2, dtype: str = "float32") -> Any:
    return load_part(str(folder), "mine", revision=None, dtype=dtype, device=CPU, group=group_of(rank, size))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("files", ["one", "many"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_parts_are_slices_of_what_transformers_loads(
    arch: Arch, tied: bool, files: str, dtype: str, tmp_path: Path
) -> None:
    torch.manual_seed(2)
    model = make_model(arch, make_tokenizer(arch), width=64, kv_heads=2, tied=tied)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path, **({"max_shard_size": "60KB"} if files == "many" else {}))
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (files == "many")
    for rank in range(2):
        part = load(tmp_path, rank, dtype=dtype)
        whole = shard_model(load_model(str(tmp_path), "mine", revision=None, dtype=dtype), "mine", group_of(rank))
        expected = {**dict(whole.named_parameters(remove_duplicate=False)), **dict(whole.named_buffers())}
        found = {**dict(part.named_parameters(remove_duplicate=False)), **dict(part.named_buffers())}
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name].dtype == value.dtype, name
            assert torch.equal(found[name], value), name
        shared = part.get_output_embeddings().weight is part.get_input_embeddings().weight
        assert shared == tied
        assert not any(p.requires_grad for p in part.parameters())


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("sound") / "model", "llama", width=64, kv_heads=2)


def test_a_part_ends_texts_where_the_whole_model_does(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model", "qwen2", width=64, kv_heads=2)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [5, 7]}))
    tokenizer = make_tokenizer("qwen2")
    whole = load_model(str(folder), "mine", revision=None, dtype="float32")
    found = special_tokens(load(folder), tokenizer, "mine")
    assert found == special_tokens(whole, tokenizer, "mine")
    assert {5, 7} < found.ends
    path.write_text("{ broken")
    with pytest.raises(UserError, match="cannot load the checkpoint mine"):  # lest some processes end texts elsewhere
        load(folder)


def test_a_part_holds_its_own_memory_alone(sound: Path) -> None:
    """A view of a mapped file would keep all of its pages."""
    part = load(sound)
    held = sum(p.untyped_storage().nbytes() for p in part.parameters())
    assert held == local_bytes(part)


UP = "model.layers.1.mlp.up_proj.weight"


def changed(sound: Path, to: Path, change: Any) -> Path:
    to.mkdir()
    (to / "config.json").write_text((sound / "config.json").read_text())
    weights = load_file(sound / "model.safetensors")
    change(weights)
    save_file(weights, to / "model.safetensors")
    return to


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda w: w.pop(UP), f"its weight files lack {UP}; copy or save"),
        (
            lambda w: w.update({UP: w[UP][:-1].clone()}),
            f"do not fit its config.json: {UP} is [127, 64] instead of [128, 64]; copy or save",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(sound: Path, tmp_path: Path, change: Any, expected: str) -> None:
    with pytest.raises(UserError) as refused:
        load(changed(sound, tmp_path / "m", change))
    assert str(refused.value).startswith("cannot load the checkpoint mine: ")
    assert expected in str(refused.value)


def test_files_that_cannot_be_read_in_part_are_refused(sound: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((sound / "config.json").read_text())
    with pytest.raises(UserError, match="can only be read from safetensors files; save it once with save_pretrained"):
        load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((sound / "model.safetensors").read_bytes()[:500])
    with pytest.raises(UserError, match="cannot load the checkpoint mine: "):
        load(tmp_path)


def test_parts_that_are_not_alike_are_refused(sound: Path) -> None:
    with pytest.raises(UserError, match="target_shards=4: the 2 key and value heads of mine do not divide by it"):
        load(sound, size=4)
