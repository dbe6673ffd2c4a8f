"""Source states kept on disk are those that reading gives, for any batch, order and number of trials."""

from pathlib import Path

import pytest
import torch

from ray_bridge import source_cache
from ray_bridge.encoding import Encoder, read_source
from ray_bridge.lm import FrozenLM
from ray_bridge.presets import tiny
from ray_bridge.source_cache import CHUNK, SourceStates
from ray_bridge.tasks.synthetic_task import SyntheticTask
from ray_bridge.workers import Worker
from tests.ray_bridge.pairs import save_checkpoint

TASK = SyntheticTask(train_examples=40, test_examples=5)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("models")
    source = FrozenLM.load(str(save_checkpoint(folder / "source", "mistral")))
    target = FrozenLM.load(str(save_checkpoint(folder / "target", "llama")))
    header = TASK.header(TASK.train()[:2])
    return Encoder(tiny(num_fewshot=2), TASK, header, source, target)


def states_of(encoder: Encoder, folder: Path | None, **settings: int) -> SourceStates:
    return SourceStates(encoder.source, encoder, TASK.train(), -1, "model", folder, **settings)


def test_states_are_those_of_reading_and_the_same_from_disk(encoder: Encoder, tmp_path: Path) -> None:
    items = encoder([TASK.train()[i] for i in (3, 38, 17, 4)])
    read = read_source(encoder.source, items, -1)
    made, found = (states_of(encoder, tmp_path)(items) for _ in range(2))
    memory = states_of(encoder, None)(items)
    assert torch.equal(made.mask, read.mask)
    assert torch.allclose(made.states, read.states, atol=1e-5)
    assert torch.equal(made.states, found.states)
    assert torch.equal(made.states, memory.states)
    alone = states_of(encoder, tmp_path)(items[1:2]).states[0]
    assert torch.equal(alone, made.states[1, : len(alone)])
    assert len(list((tmp_path / "source_states").iterdir())) == len({3 // CHUNK, 38 // CHUNK, 17 // CHUNK})


def test_nothing_is_read_twice(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = encoder(TASK.train()[:20])
    first = states_of(encoder, tmp_path)(items)
    monkeypatch.setattr(source_cache, "read_source", lambda *_: pytest.fail("the source was run again"))
    assert torch.equal(states_of(encoder, tmp_path)(items).states, first.states)


def test_another_model_or_prompt_has_other_files(encoder: Encoder, tmp_path: Path) -> None:
    states_of(encoder, tmp_path)(encoder(TASK.train()[:1]))
    other = states_of(encoder, tmp_path)
    other.identity = "another model"
    other(encoder(TASK.train()[:1]))
    assert len(list((tmp_path / "source_states").iterdir())) == 2


def test_the_folder_is_bounded_and_examples_from_elsewhere_are_read(encoder: Encoder, tmp_path: Path) -> None:
    states = states_of(encoder, tmp_path, limit=1)
    states(encoder(TASK.train()))
    assert len(list((tmp_path / "source_states").iterdir())) == 1
    foreign = encoder(TASK.test()[:2])
    assert torch.equal(states(foreign).states, read_source(encoder.source, foreign, -1).states)


def test_prepared_states_are_all_there(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in range(2):
        states = states_of(encoder, tmp_path)
        monkeypatch.setattr(Worker, "barrier", lambda _self: None)
        states.prepare(Worker(rank=rank, world=2))
    monkeypatch.setattr(source_cache, "read_source", lambda *_: pytest.fail("the source was run again"))
    assert states_of(encoder, tmp_path)(encoder(TASK.train())).states.shape[0] == 40
