"""RLOO on a toy whose expected reward is known exactly, its advantages, and the memory of both losses."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ray_bridge.bridges.translator import TranslatorModule, build_translator
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.inputs.encoding import Encoded, Encoder
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.model_pair import ModelPair
from ray_bridge.models import frozen_lm
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.recompute import recompute_layers
from ray_bridge.models.soft_context import SoftContext, adapters_as_hooks
from ray_bridge.objectives.decode_aware import DecodeAware
from ray_bridge.objectives.gradient_accumulation import accumulate_gradients
from ray_bridge.objectives.policy_gradient import leave_one_out, token_losses
from ray_bridge.objectives.rollouts import draw_questions
from ray_bridge.objectives.step_context import StepContext, StepKey
from ray_bridge.tasks.task import Example, Score
from tests.support.model_pairs import PairFolders
from tests.support.objective_steps import Frame, ParityTask, make_frame, unsettle
from tests.support.rollouts import LAYOUTS, UNLIMITED, rollout

STEPS = 60
REWARDS = {"": 0.0, "a": 1.1, "a a": 0.1}


class Toy:
    """One token right is correct; a second one is only well-formed."""

    name = "toy"
    instruction = "a"
    stops = ()

    def train(self) -> Sequence[Example]:
        return [Example(id=f"toy-{i}", index=i, question="a", answer="a", gold="a") for i in range(40)]

    def test(self) -> Sequence[Example]:
        return self.train()

    def header(self, exemplars: Sequence[Example]) -> str:
        return ""

    def prompt(self, example: Example) -> str:
        return " ".join("a" * (1 + example.index % 3))

    def continuation(self, example: Example) -> str:
        return f" {example.answer}"

    def score(self, output: str, example: Example) -> Score:
        return Score(answer=None, correct=output == "a", flexible=False, valid=output in ("a", "a a"))


def two_token_model() -> FrozenLM:
    """A Llama of the vocabulary {a, EOS} whose outputs depend strongly on its inputs."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token=None)
    torch.manual_seed(4)
    config: Any = LlamaConfig(
        vocab_size=2,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=64,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=1,
    )
    return FrozenLM(LlamaForCausalLM(config), tokenizer, "toy")


@pytest.fixture(params=[pytest.param((1.0, "prepend"), marks=pytest.mark.slow), (0.6, "prepend"), (1.0, "adapter")])
def toy(request: pytest.FixtureRequest) -> tuple[ModelPair, TranslatorModule]:
    temperature, injection = request.param
    spec = JobSpec(
        injection=injection,
        soft_tokens=2,
        hidden_size=16,
        depth=1,
        num_heads=2,
        sampler_steps=1,
        max_new_tokens=2,
        decode_questions=4,
        decode_samples=8,
        decode_temperature=temperature,
        condition_dropout=0.0,
        geometry_projection=False,
    )
    lm, task = two_token_model(), Toy()
    pair = ModelPair(spec=spec, source=lm, target=lm, task=task, encoder=Encoder(spec, task, "", lm, lm))
    translator = build_translator(spec, lm, lm)
    unsettle(translator)
    return pair, translator


def steps_of(pair: ModelPair, translator: TranslatorModule) -> Iterator[StepContext]:
    for number in range(STEPS):
        items = pair.encoder(pair.task.train()[:1])
        source = read_source(pair.source, items, pair.spec.source_layer)
        yield StepContext(pair.spec, pair.target, translator, source, StepKey(seed=3, step=number), Worker())


def expected_reward(pair: ModelPair, translator: TranslatorModule, step: StepContext) -> Tensor:
    """Mean over the step's questions of the reward's expectation, by enumeration of all completions."""
    spec, target, train = pair.spec, pair.target, pair.task.train()
    items = pair.encoder([train[i] for i in draw_questions(spec, step.step_key, len(train))])
    asked = StepContext(
        spec, target, translator, read_source(pair.source, items, spec.source_layer), step.step_key, Worker()
    )
    soft = translator.injection(asked.soft)
    worth = [_enumerated(target, item, soft.rows([i]), spec.decode_temperature) for i, item in enumerate(items)]
    return torch.stack(worth).mean()


def _enumerated(target: FrozenLM, item: Encoded, soft: SoftContext, temperature: float) -> Tensor:
    text = target.embed(torch.tensor([*item.row.prompt, 0]))  # (T + 1, d)
    begin = target.embed(torch.tensor([target.bos]))  # (1, d)
    inputs = [begin, text] if soft.adapters else [begin, soft.tokens[0], text]
    with adapters_as_hooks(target.layers, soft):
        logits = target.model(inputs_embeds=torch.cat(inputs)[None]).logits[0, -2:]  # (2, 2)
    first, second = (logits / temperature).softmax(-1)  # (2,) each: of the first token, and of the second after a
    return REWARDS[""] * first[1] + REWARDS["a"] * first[0] * second[1] + REWARDS["a a"] * first[0] * second[0]


def flat(tensors: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
    return torch.cat([torch.zeros(p.numel()) if t is None else t.flatten() for t, p in zip(tensors, like, strict=True)])


def moved(parameters: Sequence[Tensor], direction: Tensor, size: float) -> None:
    start = 0
    with torch.no_grad():
        for p in parameters:
            p.add_(size * direction[start : start + p.numel()].view_as(p))
            start += p.numel()


def test_the_estimate_is_the_gradient_of_the_expected_reward(toy: tuple[ModelPair, TranslatorModule]) -> None:
    pair, translator = toy
    parameters = [p for p in translator.parameters() if p.requires_grad]
    decode = DecodeAware(pair, pair.task.train(), batch_size=64, micro_tokens=4096)
    estimates = []
    for step in steps_of(pair, translator):
        term = decode.rloo(step)
        gradient = flat(torch.autograd.grad(term.total, parameters, allow_unused=True), parameters)
        estimates.append(-gradient / (pair.spec.decode_questions * pair.spec.decode_samples))
    gradients = torch.stack(estimates)  # (STEPS, P)

    whole = torch.stack([expected_reward(pair, translator, step) for step in steps_of(pair, translator)]).mean()
    steepest = flat(torch.autograd.grad(whole, parameters, allow_unused=True), parameters)  # (P,)
    steepest /= steepest.norm()
    other = torch.randn(len(steepest), generator=torch.Generator().manual_seed(0))
    for direction, has_signal in ((steepest, True), (other / other.norm(), False)):
        slopes = []
        for step in steps_of(pair, translator):
            ends = []
            for size in (0.01, -0.01):
                moved(parameters, direction, size)
                with torch.no_grad():
                    ends.append(float(expected_reward(pair, translator, step)))
                moved(parameters, direction, -size)
            slopes.append((ends[0] - ends[1]) / 0.02)
        truth = torch.tensor(slopes)  # (STEPS,)
        gap = gradients @ direction - truth  # (STEPS,)
        error = float(gap.std()) / math.sqrt(STEPS)
        assert abs(float(gap.mean())) < 4 * error
        if has_signal:
            assert float(truth.mean()) > 12 * error


def test_advantages_leave_one_out() -> None:
    assert leave_one_out([1.0, 0.0, 0.0, 0.5]) == pytest.approx([1 - 1 / 6, -0.5, -0.5, 0.5 - 1 / 3])
    assert leave_one_out([0.1, 0.1, 0.1]) is None
    assert leave_one_out([1.1, 0.1]) == pytest.approx([1.0, -1.0])


@pytest.fixture(scope="module")
def frame(folders: PairFolders) -> Frame:
    return make_frame(folders, ParityTask, max_new_tokens=30, decode_temperature=1.5)


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
    own = soft.rows([c.soft_row for c in literal])
    _, something = token_losses(target, own, literal, torch.zeros(len(literal)), 1.0)
    assert float(something) > 1


@pytest.mark.parametrize("layout", ["first", "before_question"])
def test_recomputing_layers_changes_no_gradient(
    folders: PairFolders, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = make_frame(folders, ParityTask, **LAYOUTS[layout])
    soft, completions, advantages = rollout(frame)
    saved = accumulate_gradients(frame.pair.target, soft, completions, advantages, 1.0, UNLIMITED)
    monkeypatch.setattr(frozen_lm, "recompute_layers", lambda _layers: nullcontext())
    whole = accumulate_gradients(frame.pair.target, soft, completions, advantages, 1.0, UNLIMITED)
    assert torch.equal(saved[0], whole[0])
    torch.testing.assert_close(saved[1], whole[1], rtol=1e-6, atol=1e-7)
    assert not any("forward" in layer.__dict__ for layer in frame.pair.target.layers)


def test_a_forward_set_on_a_layer_is_restored(frame: Frame) -> None:
    layer = frame.pair.target.layers[0]
    own = layer.forward
    layer.forward = own
    with recompute_layers(frame.pair.target.layers):
        assert layer.forward is not own
    assert layer.__dict__.pop("forward") is own


@contextmanager
def kept_for_backward(sizes: list[int]) -> Iterator[None]:
    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield


def test_recomputed_layers_keep_only_their_inputs(frame: Frame) -> None:
    target = frame.pair.target
    soft = frame.step(frame.items(4)).soft.detach().requires_grad_()
    mask = torch.ones(4, soft.shape[1], dtype=torch.long)
    positions = torch.arange(soft.shape[1]).expand(4, -1)
    sizes: dict[bool, list[int]] = {True: [], False: []}
    for again, kept in sizes.items():
        with kept_for_backward(kept), recompute_layers(target.layers) if again else nullcontext():
            target.hidden(soft, mask, positions)
    assert sum(sizes[True]) < 0.3 * sum(sizes[False])
