"""The geometry projection: initial map, segmentation in a batch, phase, and its place in the translator."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from transformers.models.llama.modeling_llama import rotate_half

from ray_bridge.bridges.geometry_projection import (
    GeometryProjection,
    RotaryPhase,
    inverse_frequencies,
    pooling_entries,
)
from ray_bridge.bridges.translator import build_translator
from ray_bridge.config.presets import tiny
from ray_bridge.config.spec import JobSpec
from ray_bridge.inputs.encoding import Encoder
from ray_bridge.inputs.layout import assemble
from ray_bridge.inputs.source_batch import SourceBatch, read_source
from ray_bridge.models.embedding_map import fit_map, shared_embeddings
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.models.token_alignment import ByteSpans, align_spans
from ray_bridge.tasks.synthetic.task import SyntheticTask
from ray_bridge.tasks.task import Example
from tests.support.model_pairs import Arch, frozen, make_tokenizer

SMALL: dict[str, Any] = {"soft_tokens": 3, "hidden_size": 16, "depth": 1, "num_heads": 2, "sampler_steps": 2}


def examples() -> list[Example]:
    texts = ["Tom has 1234 pears.", "Añø pays €5 for 12 東京 hats.\nHow many?"]
    return [Example(id=str(i), index=i, question=text, answer="7\n#### 7", gold="7") for i, text in enumerate(texts)]


def batch(spec: JobSpec, source: FrozenLM, target: FrozenLM) -> SourceBatch:
    encoder = Encoder(spec, SyntheticTask(1, 1), "", source, target)
    return read_source(source, encoder(examples()), spec.source_layer)


def rotated_pair(width: int) -> tuple[FrozenLM, FrozenLM, Tensor]:
    """A source and a target whose embeddings of shared strings are the source's, rotated, doubled and shifted."""
    source, target = frozen("mistral", 32), copy.deepcopy(frozen("llama", width))
    rotation = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(1))).Q[:32]  # (32, w)
    table = target.embedding.weight
    with torch.no_grad():
        for token, number in target.tokenizer.get_vocab().items():
            if token in target.tokenizer.all_special_tokens or any(ord(c) > 126 and c != "Ġ" for c in token):
                continue
            twin = source.tokenizer.convert_tokens_to_ids(token.replace("Ġ", "▁"))
            if twin != source.tokenizer.unk_token_id:
                table[number] = 2 * source.embedding.weight[twin] @ rotation + 0.1
    return source, target, rotation


@pytest.mark.parametrize("kind", ["ridge", "procrustes"])
@pytest.mark.parametrize("width", [32, 48])
def test_the_map_recovers_a_rotation(kind: Any, width: int) -> None:
    source, target, rotation = rotated_pair(width)
    X, Y = shared_embeddings(source, target)
    assert len(X) > 200
    alike = ((X @ rotation.double() * 2 + 0.1 - Y).abs().amax(1) < 1e-5).nonzero()[:, 0]  # bytes have no twin above
    assert len(alike) > 0.5 * len(X)
    fitted = fit_map(X[alike], Y[alike], kind)
    assert fitted.held_out_r2 >= 0.99
    torch.testing.assert_close(fitted.weight, 2 * rotation.double().T, atol=0.01, rtol=0)
    torch.testing.assert_close(X[alike] @ fitted.weight.T + fitted.bias, Y[alike], atol=0.02, rtol=0)


@pytest.mark.parametrize("kind", ["ridge", "procrustes"])
def test_held_out_r2_does_not_flatter(kind: Any) -> None:
    X, Y = torch.randn(2, 120, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert fit_map(X, Y, kind).held_out_r2 < 0.05


def test_too_few_shared_strings_start_from_an_isometry() -> None:
    X = torch.randn(5, 6, dtype=torch.float64)
    fitted = fit_map(X, torch.randn(5, 8, dtype=torch.float64), "ridge")
    assert (fitted.pairs, fitted.held_out_r2) == (5, 0.0)
    torch.testing.assert_close((X @ fitted.weight.T).norm(dim=1), X.norm(dim=1))


@pytest.mark.parametrize("arch", ["llama", "qwen2", "gpt_neox"])
def test_gain_0_is_the_identity_and_gain_1_the_targets_rotation(arch: Arch) -> None:
    lm = frozen(arch, 32)
    frequencies = inverse_frequencies(lm)
    assert frequencies is not None
    phase = RotaryPhase(frequencies, 32)
    x, index = torch.randn(2, 5, 32), torch.tensor([[1, 2, 3, 4, 400], [7, 0, 900, 2, 1]])
    assert torch.equal(phase(x, index), x)
    with torch.no_grad():
        phase.gain.fill_(1)
    cos, sin = lm.model.base_model.rotary_emb(x, index)  # (2, 5, 2F)
    cos, sin = cos[:, :, None], sin[:, :, None]  # (2, 5, 1, 2F)
    blocks = x.unflatten(-1, (-1, cos.shape[-1]))  # (2, 5, blocks, 2F)
    torch.testing.assert_close(
        phase(x, index), (blocks * cos + rotate_half(blocks) * sin).flatten(2), atol=2e-4, rtol=0
    )


@settings(max_examples=30, deadline=None)
@given(size=st.integers(4, 40), count=st.integers(1, 24), gain=st.floats(-3, 3), index=st.integers(0, 5000))
def test_any_gain_is_a_rotation(size: int, count: int, gain: float, index: int) -> None:
    phase = RotaryPhase(10000 ** (-torch.arange(count) / count), size)
    with torch.no_grad():
        phase.gain.fill_(gain)
    x = torch.randn(1, 1, size)
    torch.testing.assert_close(phase(x, torch.tensor([[index]])).norm(), x.norm())


def test_models_without_rotary_get_no_phase() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = make_tokenizer("gpt_neox")
    ids = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=512, n_embd=32, n_layer=1, n_head=2, **ids)
    plain = FrozenLM(GPT2LMHeadModel(config), tokenizer, "gpt2")
    projection = GeometryProjection(frozen("mistral", 48), plain, soft_tokens=3, init="ridge")
    assert projection.phase is None
    spec = tiny(**SMALL)
    read = batch(spec, frozen("mistral", 48), plain)
    inputs = projection.token_inputs(read.items, read.states)
    states, mask = projection(read.states, *inputs), inputs[0]
    assert states.shape == (*mask.shape, 32)


@pytest.mark.parametrize("layout", ["soft_plus_text", "soft_only"])
def test_states_are_at_the_targets_tokens_and_indices(layout: str) -> None:
    source, target = frozen("mistral", 48), frozen("llama", 32)
    spec = tiny(**SMALL, layout=layout)
    read = batch(spec, source, target)
    projection = GeometryProjection(source, target, soft_tokens=3, init="ridge")
    seen: list[Tensor] = []
    assert projection.phase is not None
    projection.phase.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    inputs = projection.token_inputs(read.items, read.states)
    states, mask = projection(read.states, *inputs), inputs[0]
    whole = batch(tiny(**SMALL), source, target).items
    rows = assemble(target, [item.row for item in whole], SoftContext(tokens=torch.zeros(2, 3, 32)), pad="right")
    for i, item in enumerate(read.items):
        places = seen[0][i][mask[i] == 1].long()
        read_back = rows.embeds[i, places]  # (T, d_t), what the target reads there
        ids = [int((target.embedding.weight == row).all(1).nonzero()[0, 0]) for row in read_back]
        text = target.tokenizer.decode(ids)
        assert item.example.question in text
        assert len(text) <= len(item.example.question) + 2  # the border tokens may hold a neighbour's character
        assert item.alignment is not None
        begin, end = item.question_span
        assert item.alignment.source_span == (begin - 1, end - 1)
        own = torch.zeros(len(places), end - begin)  # (T, S)
        own[item.alignment.row, item.alignment.column] = torch.from_numpy(item.alignment.share)
        pooled = projection.linear(own @ read.states[i, : end - begin])  # (T, d_t)
        torch.testing.assert_close(states[i, : len(places)], pooled)
        assert mask[i].tolist() == [1] * len(places) + [0] * (mask.shape[1] - len(places))


ALIGNMENTS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=8), min_size=2, max_size=2)


def cut_at(lengths: list[int], total: int) -> ByteSpans:
    """Tokens of the given lengths; the last one ends where the text does."""
    edges = np.minimum(np.cumsum([0, *lengths]), total)
    edges[-1] = total
    return ByteSpans(first=3, spans=np.stack([edges[:-1], edges[1:]], 1))


@settings(max_examples=60, deadline=None)
@given(batch=st.lists(ALIGNMENTS, min_size=1, max_size=3), pads=st.integers(0, 3))
def test_pooling_is_the_product_with_the_matrix(batch: list[list[list[int]]], pads: int) -> None:
    alignments = []
    for source, target in batch:
        total = min(sum(source), sum(target))
        alignments.append(align_spans(cut_at(source, total), cut_at(target, total), 0, total))
    S = max(int(one.column.max()) + 1 for one in alignments) + pads
    T = max(len(one.tokens) for one in alignments) + pads
    states = torch.randn(len(alignments), S, 5, dtype=torch.float64)
    matrix = torch.zeros(len(alignments), T, S, dtype=torch.float64)
    for i, one in enumerate(alignments):
        matrix[i, one.row, one.column] = torch.from_numpy(one.share).double()
    places, shares, ends = pooling_entries(alignments, T, S)
    assert len(places) == len(shares) == len(alignments) * (T + S), "one shape for one B, T and S"
    assert int(ends[-1]) == len(places), "kernels give entries after the last end to the last row"
    pooled = functional.embedding_bag(
        places, states.flatten(0, 1), ends, mode="sum", per_sample_weights=shares.double(), include_last_offset=True
    )
    torch.testing.assert_close(pooled.unflatten(0, (len(alignments), T)), matrix @ states, rtol=1e-12, atol=1e-12)


def test_tokens_that_overlap_take_more_entries() -> None:
    """Four tokens of one character, as of tokenizers that rewrite the text, share the states of four others."""
    split = ByteSpans(first=0, spans=np.array([[0, 4]] * 4))
    places, shares, ends = pooling_entries([align_spans(split, split, 0, 4)], 4, 4)
    assert len(places) == 16  # twice T + S
    states = torch.randn(4, 3, dtype=torch.float64)
    pooled = functional.embedding_bag(
        places, states, ends, mode="sum", per_sample_weights=shares.double(), include_last_offset=True
    )
    torch.testing.assert_close(pooled, states.mean(0).expand(4, 3), rtol=1e-12, atol=1e-12)


def test_what_a_long_question_takes_is_linear_in_its_tokens() -> None:
    source, target = frozen("mistral", 48), frozen("llama", 32)
    question = "Tom has 1234 pears and 東京. " * 100
    example = Example(id="long", index=0, question=question, answer="7\n#### 7", gold="7")
    (item,) = Encoder(tiny(**SMALL), SyntheticTask(1, 1), "", source, target)([example])
    assert item.alignment is not None
    length, count = item.question_span[1] - item.question_span[0], len(item.alignment.tokens)
    inputs = GeometryProjection(source, target, soft_tokens=3, init="ridge").token_inputs(
        [item], torch.zeros(1, length, 48)
    )
    assert min(length, count) > 1000
    assert sum(x.numel() for x in inputs) < 10 * (length + count)


def test_rows_do_not_depend_on_their_batch() -> None:
    source, target = frozen("mistral", 48), frozen("llama", 32)
    spec = tiny(**SMALL)
    translator = build_translator(spec, source, target)
    encoder = Encoder(spec, SyntheticTask(1, 1), "", source, target)
    noise = torch.randn(2, 3, 32)
    with torch.no_grad():
        for parameter in translator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        together = translator(read_source(source, encoder(examples()), -1), noise)
        alone = [translator(read_source(source, encoder([e]), -1), noise[i, None]) for i, e in enumerate(examples())]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_every_parameter_learns() -> None:
    source, target = frozen("mistral", 48), frozen("llama", 32)
    spec = tiny(**SMALL)
    translator = build_translator(spec, source, target)
    assert translator.geometry is not None
    read = batch(spec, source, target)
    states = translator.geometry(*translator.bridge_inputs(read))
    (states * torch.randn(states.shape)).sum().backward()
    for name, parameter in translator.geometry.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).any(), name
    assert all(p.dtype == torch.float32 for p in translator.parameters())


def test_off_is_the_raw_source() -> None:
    source, target = frozen("mistral", 48), frozen("llama", 32)
    spec = tiny(**SMALL, geometry_projection=False)
    translator = build_translator(spec, source, target)
    seen: list[Tensor] = []
    translator.bridge.conditioner.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    read = batch(spec, source, target)
    translator(read, torch.randn(2, 3, 32))
    assert torch.equal(seen[0], read.states)
    assert translator.initialisation == {}
    assert all(item.alignment is None for item in read.items)


def test_the_map_starts_from_the_fit_and_is_reported() -> None:
    source, target = frozen("mistral", 48), frozen("llama", 32)
    X, Y = shared_embeddings(source, target)
    for kind in ("ridge", "procrustes"):
        translator = build_translator(tiny(**SMALL, geometry_init=kind), source, target)
        fitted = fit_map(X, Y, kind)
        assert translator.geometry is not None
        assert torch.equal(translator.geometry.linear.weight, fitted.weight.float())
        assert torch.equal(translator.geometry.linear.bias, fitted.bias.float())
        assert translator.initialisation == {"geometry/pairs": len(X), "geometry/held_out_r2": fitted.held_out_r2}
