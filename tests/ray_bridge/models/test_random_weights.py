"""`random:NAME`: the architecture and tokenizer of a checkpoint with random weights, the same everywhere."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bridge_common.errors import UserError
from ray_bridge import fingerprint, random_twin, tiny
from ray_bridge.config.checkpoint_names import is_random, resolve
from ray_bridge.footprint.model_shape import read_shape
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.weights import weight_files
from ray_bridge.tasks.splits import load_splits


def test_it_has_the_architecture_and_tokenizer_and_other_weights() -> None:
    torch.manual_seed(1)
    made = FrozenLM.load("random:embedded:source")
    torch.manual_seed(2)
    again, trained = FrozenLM.load("random:embedded:source"), FrozenLM.load("embedded:source")
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(2)), "no other draw depends on it"
    assert made.tokenizer.get_vocab() == trained.tokenizer.get_vocab()
    assert (made.bos, made.eos, made.ends, made.num_layers) == (
        trained.bos,
        trained.eos,
        trained.ends,
        trained.num_layers,
    )
    weights, other = made.model.state_dict(), trained.model.state_dict()
    assert {name: tensor.shape for name, tensor in weights.items()} == {name: t.shape for name, t in other.items()}
    assert all(torch.equal(tensor, again.model.state_dict()[name]) for name, tensor in weights.items())
    embedding = trained.embedding_table()
    assert not torch.allclose(made.embedding_table(), embedding, atol=1e-3)
    half = FrozenLM.load("random:embedded:source", dtype="bfloat16")
    assert torch.equal(half.embedding_table(), made.embedding_table().to(torch.bfloat16))


def test_names() -> None:
    assert random_twin("embedded:source") == random_twin(random_twin("embedded:source")) == "random:embedded:source"
    assert resolve("random:embedded:source") == resolve("embedded:source")
    assert is_random("random:a/b")
    assert not is_random("a/random")
    assert weight_files("random:embedded:source") == []
    assert weight_files("embedded:source") != []
    shape, other = read_shape("random:embedded:source"), read_shape("embedded:source")
    assert shape is not None
    assert other is not None
    assert replace(shape, name=other.name) == other
    with pytest.raises(UserError, match="no embedded checkpoint"):
        resolve("random:embedded:nothing")


def test_no_number_is_kept_under_the_name_of_the_trained_model(tmp_path: Path) -> None:
    trained, control = tiny(), tiny(source="random:embedded:source")
    assert fingerprint(trained) != fingerprint(control)
    copy = tmp_path / "elsewhere"
    shutil.copytree(resolve("embedded:source"), copy)
    assert fingerprint(tiny(source=f"random:{copy}")) == fingerprint(control)
    small = control.replace(train_examples=4, validation_examples=2, test_examples=2)
    splits = load_splits(small)
    pair = ModelPair.load(small, splits, torch.device("cpu"))
    other = ModelPair.load(small.replace(source="embedded:source"), splits, torch.device("cpu"))
    assert pair.digest_of(pair.target) == other.digest_of(other.target)
    assert pair.digest_of(pair.source) != other.digest_of(other.source)


def test_a_checkpoint_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"cannot load the checkpoint random:"):
        FrozenLM.load(f"random:{tmp_path}")
