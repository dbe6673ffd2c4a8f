"""The terms of every step: their values, their weights, and that each of them moves the bridge."""

import pytest
import torch
from torch.nn import functional as F

from ray_bridge.objectives.answer_nll import answer_nll
from ray_bridge.objectives.contrastive import contrast
from ray_bridge.objectives.decode_aware import decode_terms
from ray_bridge.objectives.flow_matching import flow
from ray_bridge.objectives.objective import backward, objective_terms
from ray_bridge.objectives.prompt_alignment import prompt_alignment
from tests.support.model_pairs import PairFolders
from tests.support.objective_steps import Frame, ParityTask, make_frame

EVERY_STEP = ["answer_nll", "answer_kl", "prompt_alignment", "flow", "contrast"]


@pytest.fixture(scope="module")
def frame(folders: PairFolders) -> Frame:
    return make_frame(folders)


def test_likelihood_is_of_the_answer_and_its_end(frame: Frame) -> None:
    items, target, K = frame.items(5), frame.pair.target, frame.spec.soft_tokens
    step = frame.step(items)
    expected = 0.0
    with torch.no_grad():
        for item, soft in zip(items, step.soft, strict=True):
            ids = torch.tensor([*item.row.prompt, *item.row.answer])
            row = torch.cat([target.embed(torch.tensor([target.bos])), soft, target.embed(ids)])  # (L, d)
            logits = target.model(inputs_embeds=row[None]).logits[0]  # (L, V)
            begin = 1 + K + len(item.row.prompt)
            answer = torch.tensor(item.row.answer)
            assert answer[-1] == target.eos
            expected += float(F.cross_entropy(logits[begin - 1 : -1], answer, reduction="sum"))
    term = answer_nll(step)
    assert term.count == sum(len(item.row.answer) for item in items)
    assert float(term.total.detach()) == pytest.approx(expected, rel=1e-4)


def test_prompt_alignment_is_the_distance_to_the_questions_embeddings(frame: Frame) -> None:
    step = frame.step(frame.items(5))
    rms = frame.pair.target.embedding_rms
    expected = F.mse_loss(step.soft / rms, step.question_slots, reduction="sum")
    expected = expected / (frame.spec.soft_tokens * frame.pair.target.hidden_size)
    term = prompt_alignment(step)
    assert term.count == 5
    torch.testing.assert_close(term.total, expected)
    at_data = frame.step(frame.items(5))
    at_data.soft = at_data.question_slots * rms  # type: ignore[misc]
    assert float(prompt_alignment(at_data).total.detach()) == pytest.approx(0, abs=1e-9)


def test_prompt_alignment_toggles_its_weight_alone(folders: PairFolders) -> None:
    losses = {}
    for on in (True, False):
        frame = make_frame(folders, prompt_alignment=on)
        losses[on] = backward(frame.step(frame.items(5)), objective_terms(frame.spec), frame.parameters)
        weights = {term.name: term.weight for term in objective_terms(frame.spec)}
        assert weights.pop("prompt_alignment") == (0.001 if on else 0.05)
        assert weights == {"answer_nll": 1.0, "answer_kl": 0.03, "flow": 0.1, "contrast": 0.05}
    assert losses[True].terms == losses[False].terms
    difference = losses[False].total - losses[True].total
    assert difference == pytest.approx(0.049 * losses[True].terms["prompt_alignment"], rel=1e-4)


def test_contrast_picks_the_own_question(frame: Frame) -> None:
    step = frame.step(frame.items(6))
    z, questions = step.soft.mean(1), step.question_slots.mean(1)  # (B, d) each
    cosine = F.cosine_similarity(z[:, None], questions[None], dim=-1)  # (B, B)
    expected = F.cross_entropy(cosine / frame.spec.contrast_temperature, torch.arange(6), reduction="sum")
    torch.testing.assert_close(contrast(step).total, expected, rtol=1e-4, atol=1e-5)
    perfect = frame.step(frame.items(6))
    perfect.soft = perfect.question_slots  # type: ignore[misc]
    assert float(contrast(perfect).total) < float(expected.detach())


def test_the_flow_has_noise_of_its_own(frame: Frame) -> None:
    """With the sampler's noise the network would see the same x0 in both losses and could learn it by heart."""
    step, again = frame.step(frame.items(5)), frame.step(frame.items(5))
    assert not torch.equal(step.noise("flow"), step.noise("sampler"))

    def error(noise: torch.Tensor) -> torch.Tensor:
        inputs = again.translator.bridge_inputs(again.source)
        flow_error = again.translator.flow_error(again.question_slots, noise, again.times(), None, *inputs)
        return flow_error.sum().detach()

    total = flow(step).total.detach()
    torch.testing.assert_close(total, error(again.noise("flow")))
    assert not torch.allclose(total, error(again.noise("sampler")))


@pytest.mark.parametrize("teacher", ["question", "answer"])
def test_flow_falls_on_a_fixed_batch(folders: PairFolders, teacher: str) -> None:
    frame = make_frame(folders, flow_teacher=teacher)
    items = frame.items(4)
    optimiser = torch.optim.AdamW(frame.parameters, lr=1e-2)
    values = []
    for _ in range(40):
        term = flow(frame.step(items))
        loss = term.total / term.count
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert term.count == 4
    assert sum(p.grad is not None and bool(p.grad.any()) for p in frame.parameters) > len(frame.parameters) // 2
    assert values[-1] < 0.8 * values[0]


def test_flow_data_has_no_gradient_and_is_the_chosen_text(folders: PairFolders) -> None:
    frames = {name: make_frame(folders, flow_teacher=name) for name in ("question", "answer")}
    values = {name: float(flow(f.step(f.items(4))).total.detach()) for name, f in frames.items()}
    assert values["question"] != values["answer"]
    assert not frames["question"].step(frames["question"].items(4)).question_slots.requires_grad
    none = make_frame(folders, flow_teacher="none")
    assert flow(none.step(none.items(4))).count == 0
    assert "flow" not in [term.name for term in objective_terms(none.spec)]


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "attention"},
        {"injection": "residual"},
        {"layout": "soft_only"},
        {"num_fewshot": 2, "soft_position": "before_question"},
        {"geometry_projection": True, "kl_alignment": False},
    ],
    ids=str,
)
def test_every_term_moves_the_bridge(folders: PairFolders, changes: dict[str, object]) -> None:
    frame = make_frame(folders, ParityTask, **changes)
    terms = [
        *decode_terms(frame.spec, frame.pair, frame.splits.train, batch_size=16),
        *objective_terms(frame.spec),
    ]
    assert [term.name for term in terms] == ["rloo", "on_policy_distill", *EVERY_STEP]
    losses = backward(frame.step(frame.items(6)), terms, frame.parameters, term_norms=True)
    assert set(losses.gradient_norms) == {term.name for term in terms}
    for name, norm in losses.gradient_norms.items():
        assert norm > 1e-6, name
    assert all(p.grad is not None for p in frame.parameters)


def test_the_gradient_is_the_weighted_sum_of_the_terms(frame: Frame) -> None:
    items, terms = frame.items(6), objective_terms(frame.spec)
    backward(frame.step(items), terms, frame.parameters)
    whole = torch.cat([p.grad.flatten() for p in frame.parameters if p.grad is not None])
    parts = torch.zeros_like(whole)
    for term in terms:
        losses = backward(frame.step(items), [term], frame.parameters, term_norms=True)
        part = torch.cat([p.grad.flatten() for p in frame.parameters if p.grad is not None])
        assert losses.gradient_norms[term.name] == pytest.approx(float(part.norm()), rel=1e-4)
        parts += part
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_a_term_is_due_at_the_last_step_of_its_interval(folders: PairFolders) -> None:
    frame = make_frame(folders, eval_every=3)
    terms = decode_terms(frame.spec, frame.pair, frame.splits.train, batch_size=16)
    assert [[t.due(step) for step in range(6)] for t in terms] == [[False, False, True] * 2] * 2
    assert all(term.due(step) for term in objective_terms(frame.spec) for step in range(6))
