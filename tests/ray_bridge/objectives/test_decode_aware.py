"""Decode-aware terms: what counts, what is read, and that saving memory changes no gradient."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ray_bridge.distributed import Worker
from ray_bridge.models.soft_context import SoftContext, adapters_as_hooks
from ray_bridge.objectives import decode_aware, policy_gradient
from ray_bridge.objectives.decode_aware import DecodeAware, decode_terms
from ray_bridge.objectives.objective import backward
from ray_bridge.objectives.policy_gradient import accumulate, carry, micro_batches, recomputed, token_losses
from ray_bridge.objectives.rollouts import Completion, Turn, turns_of, write
from ray_bridge.objectives.step_context import StepContext, StepKey
from ray_bridge.tasks.synthetic.task import SyntheticTask
from ray_bridge.tasks.task import Example, Score
from tests.support.live_bytes import LiveBytes
from tests.support.model_pairs import PairFolders
from tests.support.objective_steps import Frame, ParityTask, SameTask, make_frame

EVERYTHING = 10**9


class OneVaries(SyntheticTask):
    """Only one question's completions differ in worth."""

    varies = ""

    def score(self, output: str, example: Example) -> Score:
        correct = example.id == self.varies and len(output) % 2 == 0
        return Score(answer=None, correct=correct, flexible=correct, valid=False)


@pytest.fixture(scope="module")
def frame(folders: PairFolders) -> Frame:
    return make_frame(folders, ParityTask, max_new_tokens=30, decode_temperature=1.5)


def rollout(frame: Frame, questions: int = 4) -> tuple[SoftContext, list[Completion], dict[Turn, float | None]]:
    """Soft tokens, completions of very different lengths, and some advantages."""
    items = frame.items(questions)
    soft = frame.translator.injection(frame.step(items).soft).detach()
    turns = turns_of(Worker(), questions, frame.spec.decode_samples)
    completions = write(frame.pair, StepKey(seed=0, step=0), turns, [t.question for t in turns], items, soft, 64)
    completions = [replace(c, tokens=c.tokens[: 2 + 3 * (i % 7)]) for i, c in enumerate(completions)]
    completions[2] = replace(completions[2], tokens=(5, frame.pair.target.eos))
    completions[3] = replace(completions[3], tokens=(frame.pair.target.eos,))
    return soft, completions, {c.turn: (-1) ** i * (1 + 0.1 * i) for i, c in enumerate(completions)}


def by_hand(frame: Frame, soft: SoftContext, completion: Completion, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-likelihood and summed KL of one completion by the plain model, without pads or micro-batches."""
    target = frame.pair.target
    item, written = completion.item, list(completion.tokens)
    own = soft.rows([completion.place])
    text = target.embed(torch.tensor([*item.row.prompt, *written]))  # (T, d)
    before = target.embed(torch.tensor(item.row.before))  # (H, d)
    n = len(written)
    read = [before, text] if own.adapters else [before, own.tokens[0], text]
    with adapters_as_hooks(target.layers, own):
        student = target.model(inputs_embeds=torch.cat(read)[None]).logits[0, -n - 1 : -1]  # (n, V)
    ids = torch.tensor([[*item.text_row.prompt, *written]])
    with torch.no_grad():
        teacher = target.model(input_ids=ids).logits[0, -n - 1 : -1]  # (n, V)
    log_q, log_p = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    return log_q[range(n), written].sum(), (log_p.exp() * (log_p - log_q)).sum()


def losses_by_hand(
    frame: Frame, soft: SoftContext, completions: Sequence[Completion], advantages: Mapping[Turn, float | None]
) -> list[Tensor]:
    """RLOO and distillation loss, one completion after another."""
    rloo = distill = torch.zeros(())
    for completion in completions:
        likelihood, divergence = by_hand(frame, soft, completion, frame.spec.decode_temperature)
        rloo = rloo - (advantages[completion.turn] or 0.0) * likelihood
        distill = distill + divergence
    return [rloo, distill]


LAYOUTS: dict[str, dict[str, object]] = {
    "first": {},
    "few-shot": {"num_fewshot": 2},
    "before_question": {"num_fewshot": 2, "soft_position": "before_question"},
    "soft_only": {"num_fewshot": 2, "layout": "soft_only"},
}


@pytest.mark.parametrize("micro_tokens", [1, 150, EVERYTHING])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_losses_and_gradients_equal_those_by_hand(folders: PairFolders, layout: str, micro_tokens: int) -> None:
    frame = make_frame(folders, ParityTask, max_new_tokens=30, decode_temperature=1.5, **LAYOUTS[layout])
    soft, completions, advantages = rollout(frame)
    leaf = soft.tokens.clone().requires_grad_()
    losses = losses_by_hand(frame, replace(soft, tokens=leaf), completions, advantages)
    expected = [torch.autograd.grad(loss, leaf, retain_graph=True)[0] for loss in losses]
    values, gradients = accumulate(frame.pair.target, soft, completions, advantages, 1.5, micro_tokens)
    torch.testing.assert_close(values, torch.stack(losses).detach(), rtol=1e-4, atol=1e-4)
    for (found,), wanted in zip(gradients, expected, strict=True):
        assert float(wanted.norm()) > 0.1
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("micro_tokens", [1, 150, EVERYTHING])
@pytest.mark.parametrize("layout", ["first", "before_question"])
def test_adapters_get_their_part_of_losses_and_gradients(folders: PairFolders, layout: str, micro_tokens: int) -> None:
    changes = {"max_new_tokens": 30, "decode_temperature": 1.5, "injection": "adapter", **LAYOUTS[layout]}
    frame = make_frame(folders, ParityTask, **changes)
    parameters = list(frame.translator.injection.parameters())
    soft, completions, advantages = rollout(frame)
    leaf = soft.tokens.clone().requires_grad_()
    losses = losses_by_hand(frame, replace(soft, tokens=leaf), completions, advantages)
    trained = [leaf, *parameters]
    expected = [torch.autograd.grad(loss, trained, retain_graph=True) for loss in losses]
    values, gradients = accumulate(frame.pair.target, soft, completions, advantages, 1.5, micro_tokens)
    torch.testing.assert_close(values, torch.stack(losses).detach(), rtol=1e-4, atol=1e-4)
    for found, wanted in zip(gradients, expected, strict=True):
        assert all(float(gradient.norm()) > 1e-3 for gradient in wanted)
        torch.testing.assert_close(found, list(wanted), rtol=1e-3, atol=1e-4)


def test_pads_are_never_read(frame: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    soft, completions, advantages = rollout(frame)
    results = []
    for pad in (frame.pair.target.pad, 17, 101):
        monkeypatch.setattr(frame.pair.target, "pad", pad)
        results.append(accumulate(frame.pair.target, soft, completions, advantages, 1.0, EVERYTHING))
    for values, gradients in results[1:]:
        assert torch.equal(values, results[0][0])
        assert all(torch.equal(found, first) for (found,), (first,) in zip(gradients, results[0][1], strict=True))


def test_a_teacher_that_reads_the_same_costs_nothing(frame: Frame) -> None:
    K, target = frame.spec.soft_tokens, frame.pair.target
    soft, completions, _ = rollout(frame)
    literal = []
    for c in completions:
        text = c.item.text_row.prompt
        row = replace(c.item.row, prompt=text[1 + K :])
        literal.append(replace(c, item=replace(c.item, row=row)))
    same = torch.stack([target.embed(torch.tensor(c.item.text_row.prompt[1 : 1 + K])) for c in completions])
    _, nothing = token_losses(target, SoftContext(tokens=same), literal, torch.zeros(len(literal)), 1.0)
    assert abs(float(nothing)) / sum(len(c.tokens) for c in literal) < 1e-5
    own = soft.rows([c.place for c in literal])
    _, something = token_losses(target, own, literal, torch.zeros(len(literal)), 1.0)
    assert float(something) > 1


def test_equal_rewards_contribute_nothing(folders: PairFolders) -> None:
    frame = make_frame(folders, SameTask)
    terms = decode_terms(frame.spec, frame.pair, frame.splits.train, batch_size=16)
    step = frame.step(frame.items(6))
    losses = backward(step, terms, frame.parameters, term_norms=True)
    assert terms[0].compute(step).count == 0
    assert losses.terms["rloo"] == 0
    assert losses.gradient_norms["rloo"] == 0
    assert losses.gradient_norms["on_policy_distill"] > 0
    assert losses.facts["decode/frac_zero_advantage"] == 1
    assert losses.facts["decode/reward_mean"] == pytest.approx(1.1)


def test_only_groups_of_unequal_rewards_count(folders: PairFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = make_frame(folders, OneVaries, decode_questions=3, decode_samples=6)
    train = frame.splits.train[:3]
    monkeypatch.setattr(OneVaries, "varies", train[1].id)
    step = frame.step(frame.items(6))
    mixed = DecodeAware(frame.pair, train, batch_size=64, micro_tokens=EVERYTHING)
    alone = DecodeAware(frame.pair, train[1:2], batch_size=64, micro_tokens=EVERYTHING)
    term, expected = mixed.rloo(step), alone.rloo(step)
    assert expected.facts["decode/frac_zero_advantage"] == 0
    assert term.facts["decode/frac_zero_advantage"] == pytest.approx(2 / 3)
    assert term.count == expected.count > 0
    torch.testing.assert_close(term.total, expected.total, rtol=1e-4, atol=1e-4)
    assert mixed.distill(step).count > alone.distill(step).count


def test_both_terms_share_one_generation_a_step(frame: Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: object) -> list[Completion]:
        calls.append(1)
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(decode_aware, "write", counted)
    decode = DecodeAware(frame.pair, frame.splits.train, batch_size=64, micro_tokens=EVERYTHING)
    step = frame.step(frame.items(6))
    assert decode.rloo(step).facts == decode.distill(step).facts
    assert len(calls) == 1
    decode.rloo(frame.step(frame.items(6), number=1))
    assert len(calls) == 2


def test_completions_are_written_through_the_adapters(folders: PairFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = make_frame(folders, ParityTask, injection="adapter")
    for adapter in frame.translator.injection.adapters.values():
        torch.nn.init.constant_(adapter.gate, 2.0)
    calls = []

    def kept(*arguments: object) -> list[Completion]:
        calls.append((arguments, write(*arguments)))  # type: ignore[arg-type]
        return calls[-1][1]

    monkeypatch.setattr(decode_aware, "write", kept)
    DecodeAware(frame.pair, frame.splits.train, batch_size=64, micro_tokens=EVERYTHING).rloo(frame.step(frame.items(2)))
    [(arguments, written)] = calls

    def again(**changes: object) -> list[tuple[int, ...]]:
        given = [replace(x, **changes) if isinstance(x, SoftContext) else x for x in arguments]  # type: ignore[arg-type]
        return [c.tokens for c in write(*given)]  # type: ignore[arg-type]

    assert again() == [c.tokens for c in written]
    assert again(adapters={}) != [c.tokens for c in written]


def test_a_finished_step_is_let_go(frame: Frame) -> None:
    decode = DecodeAware(frame.pair, frame.splits.train, batch_size=64, micro_tokens=EVERYTHING)
    step: StepContext | None = frame.step(frame.items(2))
    decode.rloo(step)  # type: ignore[arg-type]
    assert len(decode._done) == 1
    step = None
    assert len(decode._done) == 0


@pytest.mark.parametrize("layout", ["first", "before_question"])
def test_recomputing_layers_changes_no_gradient(
    folders: PairFolders, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = make_frame(folders, ParityTask, **LAYOUTS[layout])
    soft, completions, advantages = rollout(frame)
    saved = accumulate(frame.pair.target, soft, completions, advantages, 1.0, EVERYTHING)
    monkeypatch.setattr(policy_gradient, "recomputed", lambda _layers: nullcontext())
    whole = accumulate(frame.pair.target, soft, completions, advantages, 1.0, EVERYTHING)
    assert torch.equal(saved[0], whole[0])
    torch.testing.assert_close(saved[1], whole[1], rtol=1e-6, atol=1e-7)
    assert not any("forward" in layer.__dict__ for layer in frame.pair.target.layers)


def test_layers_keep_a_forward_that_was_put_on_them(frame: Frame) -> None:
    layer = frame.pair.target.layers[0]
    own = layer.forward
    layer.forward = own
    with recomputed(frame.pair.target.layers):
        assert layer.forward is not own
    assert layer.__dict__.pop("forward") is own


@contextmanager
def kept_for_backward(sizes: list[int]) -> Iterator[None]:
    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield


def test_recomputing_layers_keeps_their_inputs_alone(frame: Frame) -> None:
    target = frame.pair.target
    soft = frame.step(frame.items(4)).soft.detach().requires_grad_()
    mask = torch.ones(4, soft.shape[1], dtype=torch.long)
    positions = torch.arange(soft.shape[1]).expand(4, -1)
    sizes: dict[bool, list[int]] = {True: [], False: []}
    for again, kept in sizes.items():
        with kept_for_backward(kept), recomputed(target.layers) if again else nullcontext():
            target.hidden(soft, mask, positions)
    assert sum(sizes[True]) < 0.3 * sum(sizes[False])


def test_micro_batches_hold_to_their_limit(frame: Frame) -> None:
    _, completions, _ = rollout(frame)
    K = frame.spec.soft_tokens

    def length(c: Completion) -> int:
        return 1 + K + len(c.item.row.prompt) + len(c.tokens)

    for limit in (1, 150, 400, EVERYTHING):
        parts = list(micro_batches(completions, K, limit))
        assert sorted(id(c) for part in parts for c in part) == sorted(map(id, completions))
        assert all(len(part) == 1 or max(map(length, part)) * len(part) <= limit for part in parts)
    assert len(parts) == 1
    assert len(list(micro_batches(completions, K, 1))) == len(completions)


def test_a_carried_term_has_value_and_gradient() -> None:
    z, weight = torch.randn(2, 3, 4, requires_grad=True), torch.randn(5, requires_grad=True)
    gradients = [torch.randn(2, 3, 4), torch.randn(5)]
    total = carry([z * 2, weight], torch.tensor(7.5), gradients)
    assert float(total.detach()) == 7.5
    torch.testing.assert_close(torch.autograd.grad(total, [z, weight]), (2 * gradients[0], gradients[1]))


def peak(frame: Frame, questions: int, micro_tokens: int) -> tuple[int, int]:
    """Peak of live tensor bytes while gradients are accumulated, and the bytes of Z."""
    soft, completions, advantages = rollout(frame, questions)
    completions = [replace(c, tokens=tuple(range(5, 25))) for c in completions]
    prompt = completions[0].item
    completions = [replace(c, item=prompt) for c in completions]
    accumulate(frame.pair.target, soft, completions[:1], advantages, 1.0, micro_tokens)
    with LiveBytes() as live:
        accumulate(frame.pair.target, soft, completions, advantages, 1.0, micro_tokens)
    return live.peak, soft.tokens.numel() * soft.tokens.element_size()


@pytest.mark.parametrize("injection", ["prepend", "adapter"])
def test_memory_is_bounded_by_the_micro_batch(folders: PairFolders, injection: str) -> None:
    frame = make_frame(folders, ParityTask, soft_tokens=64, injection=injection)
    row = 1 + 64 + len(frame.items(1)[0].row.prompt) + 20
    small, z_small = peak(frame, 2, 2 * row)
    large, z_large = peak(frame, 4, 2 * row)
    assert z_large == 2 * z_small
    assert large - small <= 2 * (z_large - z_small) + 1024  # one gradient of Z for each of the two terms
    double, _ = peak(frame, 4, 4 * row)
    assert double > 1.5 * large


def test_memory_of_generation_is_bounded_by_its_batch(folders: PairFolders) -> None:
    frame = make_frame(folders, ParityTask)
    peaks = {}
    for questions, batch_size in ((2, 4), (4, 4), (4, 8)):
        items = [frame.items(1)[0]] * questions
        soft = SoftContext(tokens=frame.step(items).soft.detach())
        turns = turns_of(Worker(), questions, 4)
        places = [turn.question for turn in turns]
        with LiveBytes() as live:
            write(frame.pair, StepKey(seed=0, step=0), turns, places, items, soft, batch_size)
        peaks[questions, batch_size] = live.peak
    assert peaks[4, 4] <= 1.05 * peaks[2, 4]
    assert peaks[4, 8] > 1.5 * peaks[4, 4]
