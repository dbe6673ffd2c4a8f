"""States kept on disk are those that reading gives, for any batch, order, layout and number of trials or workers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from ray_bridge.caching import frozen_states
from ray_bridge.caching.frozen_states import CHUNK, FrozenStates
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
    """The encoder of a pair that is saved in a folder."""

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
kinds = pytest.mark.parametrize("make", [source_states, teacher_states])


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "frozen_states").iterdir()}


def kept(states: FrozenStates, places: list[int]) -> list[Tensor]:
    rows = states.rows(states.encode([TASK.train()[i] for i in places]))
    assert rows is not None
    return rows


def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (SourceStates, TeacherStates):
        monkeypatch.setattr(kind, "read", lambda *_: pytest.fail("the model was run again"))


@kinds
def test_states_are_those_of_reading_and_the_same_from_disk(encoder: Encoder, tmp_path: Path, make: Make) -> None:
    places = [3, 38, 17, 4]
    read = make(encoder, None).read(encoder([TASK.train()[i] for i in places]))  # in a batch of its own
    made, found, memory = (kept(make(encoder, folder), places) for folder in (tmp_path, tmp_path, None))
    assert torch.allclose(torch.cat(made), read, atol=1e-5)
    for one, two, three in zip(made, found, memory, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
    assert torch.equal(kept(make(encoder, tmp_path), [38])[0], made[1])
    assert len(files(tmp_path)) == len({place // CHUNK for place in places})


@kinds
@pytest.mark.parametrize("size", [0, 1000])
def test_a_file_that_was_cut_short_is_made_again(encoder: Encoder, tmp_path: Path, make: Make, size: int) -> None:
    states = make(encoder, tmp_path)
    states.prepare(Worker())
    whole = {path: path.read_bytes() for path in (tmp_path / "frozen_states").iterdir()}
    rows = [row.clone() for row in kept(states, [0, 20, 39])]
    for path, content in whole.items():
        path.write_bytes(content[:size])
    again = make(encoder, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(kept(again, [0, 20, 39]), rows, strict=True))
    again.prepare(Worker())
    assert {path: path.read_bytes() for path in whole} == whole


@kinds
def test_a_disk_that_cannot_be_written_ends_the_job(encoder: Encoder, tmp_path: Path, make: Make) -> None:
    (tmp_path / "frozen_states").write_text("in the way")
    with pytest.raises(OSError, match="frozen_states"):
        make(encoder, tmp_path).prepare(Worker())


@kinds
def test_nothing_is_read_twice(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    first = kept(make(encoder, tmp_path), list(range(20)))
    no_reading(monkeypatch)
    assert torch.equal(torch.cat(kept(make(encoder, tmp_path), list(range(20)))), torch.cat(first))


def test_whatever_states_depend_on_has_other_files(encoder: Encoder, tmp_path: Path) -> None:
    def made(make: Make, by: Encoder, **settings: Any) -> set[str]:
        before = files(tmp_path) if (tmp_path / "frozen_states").is_dir() else set()
        kept(make(by, tmp_path, **settings), [0])
        return files(tmp_path) - before

    bare = Encoder(tiny(), TASK, "", encoder.source, encoder.target)
    wide = Encoder(encoder.spec, TASK, HEADER, doubled("mistral"), doubled("llama"))
    for make in (source_states, teacher_states):
        assert len(made(make, encoder)) == 1
        assert len(made(make, encoder, identity="another model")) == 1
        assert len(made(make, bare)) == 1  # no header, so other ids
        assert len(made(make, wide)) == 1  # another dtype
        assert made(make, encoder) == set()
    assert len(made(source_states, encoder, layer=1)) == 1
    wide.target.fuse()  # its layers round elsewhere
    assert len(made(teacher_states, wide)) == 1


def test_another_answer_has_another_file_of_the_teacher(encoder: Encoder, tmp_path: Path) -> None:
    examples = list(TASK.train())
    rows = []
    for change in (0, 1):
        examples[1] = replace(examples[1], answer=examples[1 + change].answer)
        by = Encoder(encoder.spec, TASK, HEADER, encoder.source, encoder.target)
        states = TeacherStates(encoder.target, by, examples, "model", tmp_path)
        rows.append(states.rows(by(examples[:1])))
    assert len(files(tmp_path)) == 2  # the chunk holds the other answer, too
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
    found = teacher_states(encoder, tmp_path)(encoder(TASK.train()[:5]))
    assert found is not None
    assert found.states.dtype == torch.float64
    expected, ids = [], []
    for item in encoder(TASK.train()[:5]):  # one by one, the header in every row, the model as it is
        row = assemble(target, [item.text_row], None, pad="right")
        with torch.no_grad():
            hidden = target.model.base_model(inputs_embeds=row.embeds, use_cache=False).last_hidden_state  # (1, L, d_t)
        expected.append(hidden[0, -len(item.row.answer) - 1 : -1])
        ids.append(item.row.answer)
        assert item.row.answer[-1] == target.eos
    torch.testing.assert_close(found.states, torch.cat(expected), rtol=0, atol=1e-9)
    assert list(found.ids) == ids
    before = files(tmp_path)
    kept(teacher_states(plain, tmp_path), [0])
    assert files(tmp_path) == before  # layouts share the teacher's files


def test_source_states_are_what_reading_gives(encoder: Encoder, tmp_path: Path) -> None:
    items = encoder([TASK.train()[i] for i in (3, 38, 17, 4)])
    read, found = read_source(encoder.source, items, -1), source_states(encoder, tmp_path)(items)
    assert torch.equal(found.mask, read.mask)
    assert found.states.dtype == read.states.dtype
    assert torch.allclose(found.states, read.states, atol=1e-5)
    assert bool((found.states[found.mask == 0] == 0).all())
    assert list(found.items) == items


def test_one_limit_bounds_the_files_of_both(encoder: Encoder, tmp_path: Path) -> None:
    for make in (source_states, teacher_states):
        kept(make(encoder, tmp_path), list(range(40)))
    assert len(files(tmp_path)) == 6
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "frozen_states").iterdir()}
    newest = {name for name in sizes if name.startswith("teacher")}
    (tmp_path / "frozen_states" / min(newest)).unlink()
    kept(teacher_states(encoder, tmp_path, limit=sum(sizes[name] for name in newest)), list(range(40)))
    assert files(tmp_path) == newest


@kinds
def test_what_gave_way_is_read_again(encoder: Encoder, tmp_path: Path, make: Make) -> None:
    states = make(encoder, tmp_path, limit=1)
    first = kept(states, list(range(40)))
    assert len(files(tmp_path)) == 1
    assert torch.equal(torch.cat(kept(make(encoder, tmp_path, limit=1), list(range(40)))), torch.cat(first))


@kinds
def test_examples_from_elsewhere_and_other_texts_are_not_kept(encoder: Encoder, tmp_path: Path, make: Make) -> None:
    states = make(encoder, tmp_path)
    first, second = encoder(TASK.train()[:2])
    other = replace(first, source_ids=(*first.source_ids[:-1], 7), text_row=second.text_row)
    assert states.rows(encoder(TASK.test()[:2])) is None
    assert states.rows([second, other]) is None
    assert states.rows([second, replace(first, row=second.row)]) is not None  # as where a step sees the prompt


def test_what_is_not_kept_is_read_in_the_step(encoder: Encoder, tmp_path: Path) -> None:
    foreign = encoder(TASK.test()[:2])
    assert torch.equal(
        source_states(encoder, tmp_path)(foreign).states, read_source(encoder.source, foreign, -1).states
    )
    assert teacher_states(encoder, tmp_path)(foreign) is None
    assert TeacherStates(encoder.target, encoder, (), None, tmp_path)(foreign) is None


@kinds
def test_workers_prepare_what_one_would(
    encoder: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    make(encoder, alone).prepare(Worker())
    on_two_workers(prepare, make.__name__, encoder.models, both)
    assert files(both) == files(alone)
    for name in files(alone):
        assert (both / "frozen_states" / name).read_bytes() == (alone / "frozen_states" / name).read_bytes()
    no_reading(monkeypatch)
    assert len(kept(make(encoder, both), list(range(40)))) == 40


def prepare(worker: Worker, make: str, models: Path, folder: Path) -> None:
    """One of two workers that prepare a folder together."""
    encoder = Models(models)
    states = globals()[make](encoder, folder)
    states.prepare(worker)
    items = encoder(TASK.train())
    wrong = AssertionError("encoded or read again although it was prepared")
    with mock.patch.object(states, "encode", side_effect=wrong), mock.patch.object(states, "read", side_effect=wrong):
        assert len(states.rows(items)) == 40


@kinds
def test_any_number_of_chunks_may_be_open(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    first = kept(make(encoder, tmp_path), [0, 20, 39])
    monkeypatch.setattr(frozen_states, "_OPEN", 1)
    states = make(encoder, tmp_path)
    for _ in range(2):
        assert torch.equal(torch.cat(kept(states, [0, 20, 39])), torch.cat(first))
    assert len(states._chunks) == 1
