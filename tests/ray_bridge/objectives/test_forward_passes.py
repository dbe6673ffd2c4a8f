"""How passes are padded to few lengths, when layers run again, and that neither changes what is computed."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ray_bridge.bridges.translator import TranslatorModule
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.objectives import forward_passes
from ray_bridge.objectives.flow_matching import flow
from ray_bridge.objectives.forward_passes import ForwardPasses, bucket_length
from ray_bridge.objectives.step_context import StepContext
from tests.support.model_pairs import PairFolders
from tests.support.objective_steps import Frame, make_frame


@pytest.fixture(scope="module")
def frame(folders: PairFolders) -> Frame:
    frame = make_frame(folders)
    frame.pair.target.fuse()
    return frame


@pytest.mark.parametrize(
    ("length", "rounded"),
    [
        *((1, 32), (31, 32), (32, 32), (33, 64), (511, 512), (512, 512), (513, 544)),
        *((1024, 1024), (1025, 1088), (2048, 2048), (2049, 2176), (4096, 4096), (4097, 4352)),
    ],
)
def test_long_rows_are_rounded_to_sixteenths_of_their_power_of_two(length: int, rounded: int) -> None:
    assert bucket_length(length) == rounded


def test_few_lengths_remain_and_little_of_a_row_is_pads() -> None:
    assert all(bucket_length(length) >= length for length in range(1, 5000))
    assert all(bucket_length(length) - length < max(32, length / 16) for length in range(1, 5000))
    assert len({bucket_length(length) for length in range(2049, 4097)}) == 16


def test_layers_run_again_above_the_budget_alone(frame: Frame) -> None:
    def passes(above: int | None) -> ForwardPasses:
        return ForwardPasses(frame.translator, frame.pair.target, recompute_above=above)

    assert not passes(None).recomputes(1000, 1000)
    assert not passes(12).recomputes(3, 4)
    assert passes(12).recomputes(1, 13)
    assert passes(0).recomputes(1, 1)


def test_only_a_gpu_pads_unless_asked(frame: Frame) -> None:
    translator, target = frame.translator, frame.pair.target
    assert not ForwardPasses(translator, target).graphed
    assert ForwardPasses(translator, target, graphed=True).graphed


def test_padded_passes_compute_the_same(frame: Frame) -> None:
    step = frame.step(frame.items(3))
    plain = ForwardPasses(frame.translator, frame.pair.target, graphed=False)
    padded = ForwardPasses(frame.translator, frame.pair.target, graphed=True)
    length = step.student.mask.shape[1]
    assert length % 32
    with torch.no_grad():
        expected, states = plain.hidden(step.student), padded.hidden(step.student)
    assert expected.shape[1] == length
    assert states.shape[1] == bucket_length(length)
    real = step.student.mask.bool()
    torch.testing.assert_close(states[:, :length][real], expected[real], rtol=1e-4, atol=1e-4)


def test_the_bridge_reads_source_states_padded_to_128(frame: Frame) -> None:
    source = read_source(frame.pair.source, frame.items(3), frame.spec.source_layer)
    plain = ForwardPasses(frame.translator, frame.pair.target, graphed=False)
    padded = ForwardPasses(frame.translator, frame.pair.target, graphed=True)
    lengths = [{x.shape[1] for x in p.bridge_inputs(source) if x.dim() > 1} for p in (plain, padded)]
    assert lengths[0] != lengths[1]
    assert all(length % 128 == 0 for length in lengths[1])
    step = frame.step(frame.items(3))
    noise, data, times = step.noise("sampler"), step.question_slots, step.times()
    soft = [p.soft(p.bridge_inputs(source), noise) for p in (plain, padded)]
    torch.testing.assert_close(soft[0], soft[1], rtol=1e-4, atol=1e-5)
    for dropped in (None, torch.tensor([True, False, True])):
        by_hand = frame.translator.flow_error(data, noise, times, dropped, *frame.translator.bridge_inputs(source))
        for p in (plain, padded):
            again, error = p.soft_and_flow_error(p.bridge_inputs(source), noise, data, noise, times, dropped)
            torch.testing.assert_close(again, soft[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(error, by_hand, rtol=1e-4, atol=1e-5)


def test_each_pass_has_graphs_of_its_own_which_pause_and_go_together(frame: Frame) -> None:
    passes = ForwardPasses(frame.translator, frame.pair.target, graphed=True)
    step = frame.step(frame.items(2))
    inputs = passes.bridge_inputs(step.source)
    start = step.noise("sampler")
    passes.soft(inputs, start)
    passes.soft_and_flow_error(inputs, start, step.question_slots, step.noise("flow"), step.times(), None)
    passes.hidden(step.student)
    with torch.no_grad():
        passes.hidden(step.teacher)
        passes.hidden(step.teacher)
    calls = {name: graphs.eager_calls for name, graphs in passes.graphs.items()}
    assert calls == {"soft": 2, "student": 1, "teacher": 2}
    assert set(passes.graphs["soft"]._calls.values()) == {1}, "graphs of their own"
    for paused in (True, False):
        passes.pause(paused)
        assert {graphs.paused for graphs in passes.graphs.values()} == {paused}
    passes.release()
    assert not any(graphs._calls for graphs in passes.graphs.values())


def test_another_header_is_another_graph(folders: PairFolders) -> None:
    """A graph reads the header's keys and values where they were when it was captured."""
    frame = make_frame(folders, num_fewshot=2, soft_position="before_question")
    frame.pair.target.fuse()
    passes = ForwardPasses(frame.translator, frame.pair.target, graphed=True)
    step = frame.step(frame.items(2))
    assert step.student.prefix is not None
    passes.hidden(step.student)
    assert {key[0][0] for key in passes.graphs["student"]._calls} == {step.student.prefix.ids}  # type: ignore[index]
    passes.hidden(replace(step.student, prefix=None))
    assert {key[0][0] for key in passes.graphs["student"]._calls} == {step.student.prefix.ids, ()}  # type: ignore[index]


def test_a_graphed_call_trains_the_translator(frame: Frame) -> None:
    gradients = []
    for graphed in (False, True):
        passes = ForwardPasses(frame.translator, frame.pair.target, graphed=graphed)
        step = frame.step(frame.items(3))
        soft = passes.soft(passes.bridge_inputs(step.source), step.noise("sampler"))
        given = torch.autograd.grad(soft.pow(2).sum(), frame.parameters, allow_unused=True)
        gradients.append(torch.cat([g.flatten() for g in given if g is not None]))
    assert float(gradients[0].norm()) > 0
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-4)


def joint(frame: Frame, passes: ForwardPasses, *, autocast: bool) -> list[Tensor]:
    """Return soft tokens, flow errors and gradients of a step on three rows, evaluated together."""
    step = frame.step(frame.items(3))
    inputs, dropped = passes.bridge_inputs(step.source), torch.tensor([False, True, False])
    given = step.noise("sampler"), step.question_slots, step.noise("flow"), step.times(), dropped
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast, cache_enabled=False):
        if passes.graphed:
            soft, error = passes.soft_and_flow_error(inputs, *given)
        else:
            start, *of_flow = given
            soft, error = passes.soft(inputs, start), frame.translator.flow_error(*of_flow, *inputs)
    wave = torch.randn(soft.shape, generator=torch.Generator().manual_seed(0))
    loss = (soft.float() * wave).sum() + error.float().sum()
    gradients = torch.autograd.grad(loss, frame.parameters, allow_unused=True)
    return [soft.float(), error.float(), torch.cat([g.flatten() for g in gradients if g is not None])]


def test_weights_converted_together_train_as_those_that_autocast_converts(folders: PairFolders) -> None:
    frame = make_frame(folders, hidden_size=32, depth=2)
    passes = [ForwardPasses(frame.translator, frame.pair.target, graphed=graphed) for graphed in (False, True)]
    exact = joint(frame, passes[0], autocast=False)
    one_by_one, together = (joint(frame, each, autocast=True) for each in passes)
    assert len(passes[1]._multiplied) == 2 * 2 * 6, "weight and bias of six products a block"
    for value, plain, truth in zip(together, one_by_one, exact, strict=True):
        assert not torch.equal(plain, truth), "half precision rounds"
        assert (value - truth).norm() < 1.5 * (plain - truth).norm()


@pytest.mark.parametrize("autocast", [False, True])
def test_a_translator_has_its_own_weights_after_a_pass(folders: PairFolders, autocast: bool) -> None:
    """A pass puts tensors in the place of weights, also of a module that has two names."""
    frame = make_frame(folders)
    frame.translator.again = frame.translator.bridge
    before = dict(frame.translator.named_parameters())
    joint(frame, ForwardPasses(frame.translator, frame.pair.target, graphed=True), autocast=autocast)
    after = dict(frame.translator.named_parameters())
    assert before.keys() == after.keys()
    assert all(after[name] is parameter for name, parameter in before.items())
    copied = copy.deepcopy(frame.translator).state_dict()
    assert all(torch.equal(copied[name], parameter) for name, parameter in before.items())


def test_a_weight_that_two_modules_share_gets_the_gradient_of_both(folders: PairFolders) -> None:
    gradients = []
    for graphed in (False, True):
        frame = make_frame(folders, depth=2)
        flow = frame.translator.flow
        assert flow is not None
        first, second = (block.attention for block in flow.blocks)  # type: ignore[union-attr]
        second.out.weight = first.out.weight
        passes = ForwardPasses(frame.translator, frame.pair.target, graphed=graphed)
        name = next(n for n, p in frame.translator.named_parameters() if p is first.out.weight)
        assert name not in passes._multiplied, "it may be used elsewhere as it is"
        gradients.append(joint(frame, passes, autocast=False)[2])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("flow_teacher", ["question", "answer"])
def test_a_step_evaluates_the_flow_with_the_soft_tokens_on_a_gpu(
    folders: PairFolders, flow_teacher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = make_frame(folders, condition_dropout=0.5, flow_teacher=flow_teacher)
    results = []
    for with_flow in (False, True):
        plain = frame.step(frame.items(6))
        step = StepContext(
            frame.spec, plain.target, plain.translator, plain.source, plain.step_key, plain.worker,
            ForwardPasses(frame.translator, frame.pair.target, graphed=True), with_flow=with_flow,
        )  # fmt: skip
        if with_flow:
            monkeypatch.setattr(TranslatorModule, "flow_error", None)
            monkeypatch.setattr(TranslatorModule, "sample", None)
        loss = step.soft.square().sum() + flow(step).total
        gradients = torch.autograd.grad(loss, frame.parameters, allow_unused=True)
        results.append([step.soft, flow(step).total, *gradients])
    assert any(plain.dropped.tolist())  # type: ignore[union-attr]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_another_number_of_positions_that_are_read_is_another_graph(
    frame: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph's last layer computes as many as when it was captured: zeros for an answer that begins earlier."""
    monkeypatch.setattr(forward_passes, "FEWEST_ANSWERS", 4)
    passes = ForwardPasses(frame.translator, frame.pair.target, graphed=True)
    batch = frame.step(frame.items(2)).student
    length = bucket_length(batch.mask.shape[1])
    for first in (length - 3, length - 4, length - 5):
        passes.answer_states(replace(batch, answers=replace(batch.answers, first=first)))
    assert [key[0][1] for key in passes.graphs["student"]._calls] == [4, 8]
