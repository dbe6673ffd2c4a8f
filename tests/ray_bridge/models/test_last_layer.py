"""The last of the fused layers computes positions that are read alone: the same states, gradients and texts."""

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from ray_bridge.generation.eager import decode_eager
from ray_bridge.generation.fixed_shape import FixedShape
from ray_bridge.generation.graphed import decode_graphed
from ray_bridge.gpu.cuda_graphs import GraphedCalls
from ray_bridge.inputs.layout import assemble, common_prefix
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.gradient_accuracy import judge_gradients
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.objectives import forward_passes
from ray_bridge.objectives.answer_kl import answer_kl
from ray_bridge.objectives.answer_nll import answer_nll
from ray_bridge.objectives.forward_passes import ForwardPasses, positions_read
from ray_bridge.objectives.step_context import StepContext
from tests.support.decoding_rows import adapters_of, rows_of, soft_of, tokens_of
from tests.support.model_pairs import Arch, PairFolders, save_checkpoint
from tests.support.objective_steps import make_frame

ARCHES: tuple[Arch, ...] = ("mistral", "llama", "qwen2")


@pytest.fixture(scope="module", params=ARCHES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_checkpoint(tmp_path_factory.mktemp(request.param) / "model", request.param, width=64))


def load(folder: str, *, fused: bool = True) -> FrozenLM:
    lm = FrozenLM.load(folder)
    lm.model.double()
    return lm.fuse() if fused else lm


@contextmanager
def watched_last_layer(lm: FrozenLM) -> Iterator[list[int]]:
    """Note for how many positions the MLP of the last layer is computed."""
    lengths: list[int] = []
    assert lm.body is not None

    def note(_module: Any, inputs: Any) -> None:
        lengths.append(inputs[0].shape[1])

    handle = lm.body.layers[-1].down.register_forward_pre_hook(note)
    try:
        yield lengths
    finally:
        handle.remove()


@pytest.mark.parametrize("recompute", [False, True])
def test_states_and_gradients_are_the_same(folder: str, recompute: bool) -> None:
    lm, results, computed = load(folder), [], []
    for last in (None, 5):
        soft = tokens_of(lm, 4).requires_grad_()
        batch = assemble(lm, rows_of(lm, 4, answers=True), SoftContext(tokens=soft), pad="right")
        with watched_last_layer(lm) as lengths:
            hidden = lm.hidden(batch.embeds, batch.mask, batch.positions, recompute=recompute, last=last)
        assert hidden.shape[:2] == batch.mask.shape
        read = hidden[:, -5:]  # (4, 5, d)
        results.append((read, torch.autograd.grad((read * batch.mask[:, -5:, None]).sin().sum(), soft)[0]))
        computed += lengths
    length = batch.mask.shape[1]
    assert computed == ([length, length] if recompute else [length, 5])
    assert float(results[0][1].norm()) > 1e-6
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-12)


def test_all_positions_are_computed_after_a_prefix_for_adapters_and_between_pads(folder: str) -> None:
    """After a prefix the kernel gives keys before the first query no gradient; an adapter may mix positions."""
    lm = load(folder)
    rows = rows_of(lm, 4, header=2, soft_after_header=True, answers=True)
    prefix = common_prefix(lm, rows, soft=True)
    context = SoftContext(adapters=adapters_of(lm).adapters, tokens=tokens_of(lm, 4))
    for before, read, pad in ((prefix, None, "right"), (None, context, "right"), (None, None, "left")):
        batch = assemble(lm, rows, soft_of(lm, 4), pad=pad, prefix=before)  # type: ignore[arg-type]
        whole = lm.hidden(batch.embeds, batch.mask, batch.positions, prefix=before, context=read)
        with watched_last_layer(lm) as lengths:
            states = lm.hidden(batch.embeds, batch.mask, batch.positions, prefix=before, context=read, last=5)
        assert lengths == [batch.mask.shape[1]]
        assert torch.equal(states, whole)


@pytest.mark.parametrize("header", [0, 2])
def test_prompts_are_read_to_their_ends(folder: str, header: int) -> None:
    lm = load(folder)
    rows, soft = rows_of(lm, 5, header=header, soft_after_header=header > 0), soft_of(lm, 5)
    lengths = [len(row.before) + len(row.prompt) for row in rows]
    assert len(set(lengths)) > 1
    with watched_last_layer(lm) as computed:
        texts = decode_graphed(lm, rows, soft, 3)
    assert computed[-3:] == [max(lengths) - min(lengths) + 1, 1, 1]  # before them perhaps the header
    assert texts == decode_eager(load(folder, fused=False), rows, soft, 3)


def test_a_batch_of_a_fixed_shape_computes_all(folder: str) -> None:
    """A row's bits must not depend on how much shorter another one is."""
    lm = load(folder)
    rows, soft = rows_of(lm, 3), soft_of(lm, 3)
    longest = max(len(row.before) + len(row.prompt) + soft.tokens.shape[1] for row in rows)
    with watched_last_layer(lm) as computed:
        decode_graphed(lm, rows, soft, 2, shape=FixedShape(rows=4, slots=longest + 2))
    assert sorted(computed[:3]) == sorted(len(row.before) + len(row.prompt) + soft.tokens.shape[1] for row in rows)


def test_few_numbers_of_positions_are_computed() -> None:
    assert positions_read(1728, 1500) == positions_read(1728, 1728 - 512) == 512
    assert positions_read(1728, 1728 - 513) == 1024
    assert positions_read(1728, 700) is None
    assert positions_read(512, 500) is None


@pytest.mark.parametrize("graphed", [False, True])
def test_a_step_trains_on_answers_alone(folders: PairFolders, graphed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, totals, computed = make_frame(folders, num_fewshot=2, soft_position="first"), [], []
    lm = frame.pair.target.fuse()
    for fewest in (1 << 20, 4):
        monkeypatch.setattr(forward_passes, "FEWEST_ANSWERS", fewest)
        step = with_passes(frame.step(frame.items(3)), ForwardPasses(frame.translator, lm, graphed=graphed))
        with watched_last_layer(lm) as lengths:
            terms = answer_nll(step), answer_kl(step)
        soft = torch.autograd.grad(sum(term.total for term in terms), step.soft)[0]
        totals.append((*[term.total for term in terms], soft))
        computed.append(lengths)
    (whole, *_), (read, *_) = computed
    assert whole >= step.student.mask.shape[1]
    assert read == positions_read(whole, step.student.answers.first)
    assert read < whole
    torch.testing.assert_close(totals[1], totals[0], rtol=1e-4, atol=1e-6)


def test_what_a_graph_keeps_holds_no_batch(folders: PairFolders) -> None:
    class Kept(GraphedCalls):
        """Keeps every function, as captured calls do on a GPU."""

        def __call__(self, name: Any, function: Any, *arguments: Any) -> torch.Tensor:
            functions.append(function)
            return super().__call__(name, function, *arguments)

    functions: list[Any] = []
    frame = make_frame(folders, num_fewshot=2, soft_position="first")
    passes = ForwardPasses(frame.translator, frame.pair.target.fuse(), graphed=True)
    passes.graphs = {name: Kept() for name in passes.graphs}
    step = with_passes(frame.step(frame.items(3)), passes)
    answer_nll(step).total.backward()
    embeds = weakref.ref(step.student.embeds)
    del step
    gc.collect()
    assert functions
    assert embeds() is None


def test_a_term_that_reads_other_positions_gets_them_all(folders: PairFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_passes, "FEWEST_ANSWERS", 4)
    frame = make_frame(folders, num_fewshot=2, soft_position="first")
    frame.pair.target.fuse()
    step = frame.step(frame.items(3))
    answers, hidden = step.student_answers, step.student_hidden
    assert (hidden.norm(dim=-1)[step.student.mask.bool()] > 0).all()
    at = step.student.answers
    torch.testing.assert_close(hidden[at.rows, at.at], answers, rtol=1e-5, atol=1e-5)


def test_a_wrong_gradient_of_the_last_layer_is_refused(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = load(folder)
    verdict = judge_gradients(lm)
    assert verdict is not None
    assert verdict.accurate
    assert lm.body is not None
    layer = lm.body.layer

    def without_gradient_of_keys(i: int, own: Any, x: Any, y: Any, angles: Any, attend: Any, last: Any = None) -> Any:
        if last is not None:
            x = torch.cat([x[:, :-last].detach(), x[:, -last:]], 1)
        return layer(i, own, x, y, angles, attend, last)

    monkeypatch.setattr(lm.body, "layer", without_gradient_of_keys)
    with pytest.warns(UserWarning, match="gradients of fused layers are less accurate"):
        judge_gradients(lm)
    assert lm.body is None


def with_passes(step: StepContext, passes: ForwardPasses) -> StepContext:
    step.passes = passes
    return step


@pytest.mark.parametrize("position", ["first", "before_question"])
def test_where_all_positions_are_computed_one_pass_serves_all_terms(
    folders: PairFolders, position: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without fused layers, after a cached header, and in short rows."""
    frame = make_frame(folders, num_fewshot=2, soft_position=position)
    passes: list[int] = []
    hidden = FrozenLM.hidden

    def counted(self: FrozenLM, embeds: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        passes.append(embeds.shape[1])
        return hidden(self, embeds, *arguments, **named)

    monkeypatch.setattr(FrozenLM, "hidden", counted)
    for fewest, fused in ((4, False), *([(4, True)] if position == "before_question" else []), (1 << 20, True)):
        monkeypatch.setattr(forward_passes, "FEWEST_ANSWERS", fewest)
        if fused:
            frame.pair.target.fuse()
        step = frame.step(frame.items(3))
        assert step.student.mask.shape[1] > 4
        passes.clear()
        assert step.student_answers.shape[0] == len(step.student.answers.rows)
        assert step.student_hidden.shape[:2] == step.student.mask.shape
        assert len(passes) == 1
