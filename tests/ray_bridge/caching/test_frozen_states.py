"""Stored states equal those of running the model, for any batch, order, layout and number of trials or workers."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from ray_bridge.caching import frozen_states
from ray_bridge.caching.frozen_states import CHUNK, WRITING_S, FrozenStates
from ray_bridge.caching.source_states import SourceStates
from ray_bridge.caching.teacher_states import TeacherStates
from ray_bridge.config.presets import tiny
from ray_bridge.distributed import Worker
from ray_bridge.inputs.encoding import Encoder
from ray_bridge.inputs.layout import assemble
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.synthetic.task import SyntheticTask
from tests.support.model_pairs import frozen, make_model, make_tokenizer, save_checkpoint
from tests.support.workers import on_two_workers

TASK = SyntheticTask(train_examples=40, test_examples=5)
HEADER = TASK.header(TASK.train()[:2])
LAYOUTS: list[dict[str, Any]] = [
    {},
    {"soft_position": "before_question"},
    {"layout": "soft_only"},
    {"layout": "soft_only", "prompt_share": 0.5},
    {"injection": "residual"},
    {"injection": "adapter", "decode_aware": False},
]


class Models(Encoder):
    """The encoder of a pair saved in a folder."""

    def __init__(self, models: Path) -> None:
        self.models = models
        source, target = (FrozenLM.load(str(models / side)) for side in ("source", "target"))
        super().__init__(tiny(num_fewshot=2), TASK, HEADER, source, target)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    save_checkpoint(folder / "source", "mistral")
    save_checkpoint(folder / "target", "llama")
    return Models(folder)


def source_states(encoder: Encoder, folder: Path | None, **settings: Any) -> SourceStates:
    layer, identity = settings.pop("layer", -1), settings.pop("identity", "model")
    return SourceStates(encoder.source, encoder, TASK.train(), layer, identity, folder, **settings)


def teacher_states(encoder: Encoder, folder: Path | None, **settings: Any) -> TeacherStates:
    identity = settings.pop("identity", "model")
    return TeacherStates(encoder.target, encoder, TASK.train(), identity, folder, **settings)


Make = Callable[..., FrozenStates]
each = pytest.mark.parametrize("make", [source_states, teacher_states])


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "frozen_states").iterdir()}


def states_of(states: FrozenStates, places: list[int]) -> list[Tensor]:
    rows = states.lookup(states.encode([TASK.train()[i] for i in places]))
    assert rows is not None
    return rows


def forbid_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    for states in (SourceStates, TeacherStates):
        monkeypatch.setattr(states, "compute", lambda *_: pytest.fail("the model was run again"))


@each
def test_states_are_those_of_the_model_and_the_same_from_disk(encoder: Encoder, tmp_path: Path, make: Make) -> None:
    places = [3, 38, 17, 4]
    expected = make(encoder, None).compute(encoder([TASK.train()[i] for i in places]))  # in a batch of its own
    written, read, memory = (states_of(make(encoder, folder), places) for folder in (tmp_path, tmp_path, None))
    assert torch.allclose(torch.cat(written), expected, atol=1e-5)
    for one, two, three in zip(written, read, memory, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
    assert torch.equal(states_of(make(encoder, tmp_path), [38])[0], written[1])
    assert len(files(tmp_path)) == len({place // CHUNK for place in places})


@each
@pytest.mark.parametrize("size", [0, 1000])
def test_a_truncated_file_is_computed_again(encoder: Encoder, tmp_path: Path, make: Make, size: int) -> None:
    states = make(encoder, tmp_path)
    states.prepare(Worker())
    whole = {path: path.read_bytes() for path in (tmp_path / "frozen_states").iterdir()}
    rows = [row.clone() for row in states_of(states, [0, 20, 39])]
    for path, content in whole.items():
        path.write_bytes(content[:size])
    again = make(encoder, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(states_of(again, [0, 20, 39]), rows, strict=True))
    again.prepare(Worker())
    assert {path: path.read_bytes() for path in whole} == whole


@each
def test_a_disk_that_cannot_be_written_ends_the_job(encoder: Encoder, tmp_path: Path, make: Make) -> None:
    (tmp_path / "frozen_states").write_text("in the way")
    with pytest.raises(OSError, match="frozen_states"):
        make(encoder, tmp_path).prepare(Worker())


@each
def test_nothing_is_computed_twice(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    first = states_of(make(encoder, tmp_path), list(range(20)))
    forbid_computing(monkeypatch)
    assert torch.equal(torch.cat(states_of(make(encoder, tmp_path), list(range(20)))), torch.cat(first))


def test_each_thing_that_states_depend_on_changes_the_file(encoder: Encoder, tmp_path: Path) -> None:
    def new_files(make: Make, by: Encoder, **settings: Any) -> set[str]:
        before = files(tmp_path) if (tmp_path / "frozen_states").is_dir() else set()
        states_of(make(by, tmp_path, **settings), [0])
        return files(tmp_path) - before

    bare = Encoder(tiny(), TASK, "", encoder.source, encoder.target)
    wide = Encoder(encoder.spec, TASK, HEADER, doubled("mistral"), doubled("llama"))
    for make in (source_states, teacher_states):
        assert len(new_files(make, encoder)) == 1
        assert len(new_files(make, encoder, identity="another model")) == 1
        assert len(new_files(make, bare)) == 1  # no header, so other ids
        assert len(new_files(make, wide)) == 1  # another dtype
        assert new_files(make, encoder) == set()
    assert len(new_files(source_states, encoder, layer=1)) == 1
    wide.target.fuse()  # fused layers round differently
    assert len(new_files(teacher_states, wide)) == 1


def test_another_answer_has_another_file_of_the_teacher(encoder: Encoder, tmp_path: Path) -> None:
    examples = list(TASK.train())
    rows = []
    for change in (0, 1):
        examples[1] = replace(examples[1], answer=examples[1 + change].answer)
        by = Encoder(encoder.spec, TASK, HEADER, encoder.source, encoder.target)
        states = TeacherStates(encoder.target, by, examples, "model", tmp_path)
        rows.append(states.lookup(by(examples[:1])))
    assert len(files(tmp_path)) == 2  # the chunk holds the changed answer, too
    assert torch.equal(rows[0][0], rows[1][0])  # type: ignore[index]


def doubled(arch: Any) -> FrozenLM:
    lm = frozen(arch, 32)
    return FrozenLM(make_model(arch, make_tokenizer(arch)).double(), lm.tokenizer, lm.name)


@pytest.mark.parametrize("arch", ["llama", "gpt_neox"])
@pytest.mark.parametrize("changes", LAYOUTS, ids=str)
def test_the_teacher_reads_text_alone_under_every_layout(tmp_path: Path, changes: dict[str, Any], arch: Any) -> None:
    torch.manual_seed(0)
    target, source = doubled(arch), doubled("mistral")
    plain = Encoder(tiny(num_fewshot=2), TASK, HEADER, source, target)
    encoder = Encoder(tiny(num_fewshot=2, **changes), TASK, HEADER, source, target)
    stored = teacher_states(encoder, tmp_path)(encoder(TASK.train()[:5]))
    assert stored is not None
    assert stored.states.dtype == torch.float64
    expected, ids = [], []
    for item in encoder(TASK.train()[:5]):  # one by one, the header in every row, transformers' own layers
        row = assemble(target, [item.text_row], None, pad="right")
        with torch.no_grad():
            hidden = target.model.base_model(inputs_embeds=row.embeds, use_cache=False).last_hidden_state  # (1, L, d_t)
        expected.append(hidden[0, -len(item.row.answer) - 1 : -1])
        ids.append(item.row.answer)
        assert item.row.answer[-1] == target.eos
    torch.testing.assert_close(stored.states, torch.cat(expected), rtol=0, atol=1e-9)
    assert list(stored.ids) == ids
    before = files(tmp_path)
    states_of(teacher_states(plain, tmp_path), [0])
    assert files(tmp_path) == before  # layouts share the teacher's files


def test_source_states_are_those_of_read_source(encoder: Encoder, tmp_path: Path) -> None:
    items = encoder([TASK.train()[i] for i in (3, 38, 17, 4)])
    read, stored = read_source(encoder.source, items, -1), source_states(encoder, tmp_path)(items)
    assert torch.equal(stored.mask, read.mask)
    assert stored.states.dtype == read.states.dtype
    assert torch.allclose(stored.states, read.states, atol=1e-5)
    assert bool((stored.states[stored.mask == 0] == 0).all())
    assert list(stored.items) == items


def test_one_limit_bounds_the_files_of_both(encoder: Encoder, tmp_path: Path) -> None:
    for make in (source_states, teacher_states):
        states_of(make(encoder, tmp_path), list(range(40)))
    assert len(files(tmp_path)) == 6
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "frozen_states").iterdir()}
    newest = {name for name in sizes if name.startswith("teacher")}
    (tmp_path / "frozen_states" / min(newest)).unlink()
    states_of(teacher_states(encoder, tmp_path, limit=sum(sizes[name] for name in newest)), list(range(40)))
    assert files(tmp_path) == newest


def test_what_another_process_is_writing_is_not_deleted(encoder: Encoder, tmp_path: Path) -> None:
    folder = tmp_path / "frozen_states"
    folder.mkdir()
    written, left = folder / ".source-a.bin.x1", folder / ".source-b.bin.x2"
    for path, age in ((written, 60.0), (left, 2 * WRITING_S)):
        path.write_bytes(b"begun")
        os.utime(path, (time.time() - age,) * 2)
    states_of(source_states(encoder, tmp_path, limit=1), list(range(40)))
    assert written.exists()
    assert not left.exists()


@each
def test_deleted_files_are_computed_again(encoder: Encoder, tmp_path: Path, make: Make) -> None:
    states = make(encoder, tmp_path, limit=1)
    first = states_of(states, list(range(40)))
    assert len(files(tmp_path)) == 1
    assert torch.equal(torch.cat(states_of(make(encoder, tmp_path, limit=1), list(range(40)))), torch.cat(first))


@each
def test_other_examples_and_changed_texts_have_no_stored_states(encoder: Encoder, tmp_path: Path, make: Make) -> None:
    states = make(encoder, tmp_path)
    first, second = encoder(TASK.train()[:2])
    other = replace(first, source_ids=(*first.source_ids[:-1], 7), text_row=second.text_row)
    assert states.lookup(encoder(TASK.test()[:2])) is None
    assert states.lookup([second, other]) is None
    assert states.lookup([second, replace(first, row=second.row)]) is not None  # as in a step of the prompt curriculum


def test_without_stored_states_the_models_are_run_in_the_step(encoder: Encoder, tmp_path: Path) -> None:
    foreign = encoder(TASK.test()[:2])
    assert torch.equal(
        source_states(encoder, tmp_path)(foreign).states, read_source(encoder.source, foreign, -1).states
    )
    assert teacher_states(encoder, tmp_path)(foreign) is None
    assert TeacherStates(encoder.target, encoder, (), None, tmp_path)(foreign) is None


@pytest.mark.slow
@each
def test_two_workers_prepare_the_files_that_one_does(
    encoder: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    make(encoder, alone).prepare(Worker())
    on_two_workers(prepare, make.__name__, encoder.models, both)
    assert files(both) == files(alone)
    for name in files(alone):
        assert (both / "frozen_states" / name).read_bytes() == (alone / "frozen_states" / name).read_bytes()
    forbid_computing(monkeypatch)
    assert len(states_of(make(encoder, both), list(range(40)))) == 40


def prepare(worker: Worker, make: str, models: Path, folder: Path) -> None:
    """One of two workers that prepare a folder together."""
    encoder = Models(models)
    states = globals()[make](encoder, folder)
    states.prepare(worker)
    items = encoder(TASK.train())
    wrong = AssertionError("encoded or computed again although it was prepared")
    with (
        mock.patch.object(states, "encode", side_effect=wrong),
        mock.patch.object(states, "compute", side_effect=wrong),
    ):
        assert len(states.lookup(items)) == 40


@each
def test_any_number_of_chunks_may_be_open(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    first = states_of(make(encoder, tmp_path), [0, 20, 39])
    monkeypatch.setattr(frozen_states, "_OPEN_CHUNKS", 1)
    states = make(encoder, tmp_path)
    for _ in range(2):
        assert torch.equal(torch.cat(states_of(states, [0, 20, 39])), torch.cat(first))
    assert len(states._chunks) == 1
