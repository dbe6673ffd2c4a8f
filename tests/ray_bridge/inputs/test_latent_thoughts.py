"""Latent steps of the source: each follows from the one before, alone as in a batch, live as stored."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bridge_common.errors import UserError
from ray_bridge.caching.source_states import SourceStates
from ray_bridge.config.presets import tiny
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.bridge_flops import bridge_flops
from ray_bridge.footprint.context import TooLongError
from ray_bridge.inference.checks import check_question
from ray_bridge.inference.translator import Translator
from ray_bridge.inputs.latent_thoughts import alignment, think, to_inputs
from tests.support.cache_injections import bench
from tests.support.local_jobs import finish_trial, small_spec
from tests.support.model_pairs import PairFolders

STEPS = 3
THOUGHTS: dict[str, Any] = {"bridge": "resampler", "latent_steps": STEPS, "geometry_projection": False}


def test_the_map_takes_output_embeddings_to_input_embeddings() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, mix = (torch.randn(*shape, generator=generator).double() for shape in ((60, 8), (8, 8)))
    outputs = 3 * inputs @ torch.linalg.qr(mix)[0]
    torch.testing.assert_close(outputs @ alignment(outputs, inputs), inputs, rtol=0, atol=0.05)
    assert alignment(outputs, outputs).sub(torch.eye(8)).abs().max() < 0.05, "of tied tables it is the identity"


def test_each_step_follows_from_the_state_before_it(folders: PairFolders) -> None:
    pair, splits, _ = bench(folders, **THOUGHTS)
    source, items = pair.source, pair.encoder(splits.train[:3])
    batch = think(source, items, STEPS)
    assert batch.states.shape == (3, STEPS, source.hidden_size)
    assert batch.mask.all()
    for i, item in enumerate(items):
        embeds = source.embed(torch.tensor([item.source_ids]))  # (1, L, d)
        states = []
        for _ in range(STEPS + 1):  # the whole text again for each step, without a cache
            hidden = source.model.base_model(inputs_embeds=embeds).last_hidden_state[0, -1]  # (d,)
            states.append(hidden)
            made = hidden @ to_inputs(source)
            made = made * source.embedding_rms / made.pow(2).mean().sqrt()
            embeds = torch.cat([embeds, made[None, None]], 1)
        torch.testing.assert_close(batch.states[i], torch.stack(states[1:]), rtol=1e-8, atol=1e-8)
    assert (batch.states[0] - batch.states[1]).abs().max() > 1e-2
    torch.testing.assert_close(think(source, items[:1], STEPS).states, batch.states[:1], rtol=1e-9, atol=1e-9)


def test_they_are_what_the_head_reads_under_any_source_layer(folders: PairFolders) -> None:
    pair, splits, _ = bench(folders, **THOUGHTS, source_layer=1)
    source, item = pair.source, pair.encoder(splits.train[:1])[0]
    thoughts = pair.read_source([item]).states[0]  # (m, d)
    prompt = source.embed(torch.tensor([item.source_ids]))  # (1, L, d)
    before = source.model.base_model(inputs_embeds=prompt).last_hidden_state[0, -1:]  # (1, d)
    made = torch.cat([before, thoughts[:-1]]) @ to_inputs(source)  # (m, d)
    made = made * source.embedding_rms / made.pow(2).mean(-1, keepdim=True).sqrt()
    whole = source.model(inputs_embeds=torch.cat([prompt, made[None]], 1))
    torch.testing.assert_close(source.head(thoughts), whole.logits[0, -STEPS:], rtol=1e-8, atol=1e-8)
    assert pair.spec.unused["source_layer"] == "latent_steps, whose states are the last layer's"


def test_stored_thoughts_are_those_of_the_source(folders: PairFolders, tmp_path: Path) -> None:
    pair, splits, _ = bench(folders, **THOUGHTS)
    place = (pair.source, pair.encoder, splits.train, 1, "id", tmp_path)
    stored, plain = SourceStates(*place, latent_steps=STEPS, read=pair.read_source), SourceStates(*place)
    for states in (stored, plain):
        states.prepare(Worker())
    items = pair.encoder(splits.train[1:4])
    torch.testing.assert_close(stored(items).states, pair.read_source(items).states, rtol=1e-9, atol=1e-9)
    assert stored.lookup(items) is not None
    assert plain(items).states.shape[1] != STEPS


def test_the_bridge_reads_nothing_but_the_thoughts(folders: PairFolders) -> None:
    pair, splits, translator = bench(folders, **THOUGHTS)
    items = pair.encoder(splits.test)
    assert len(set(bridge_flops(pair, translator, items) or ())) == 1, "as many states for every question"
    assert pair.read_source(items).states.shape[1] == STEPS


@pytest.mark.slow
def test_a_trained_one_is_loaded_and_answers_as_recorded(folders: PairFolders, tmp_path: Path) -> None:
    spec = small_spec(folders, **THOUGHTS, steps=4, test_examples=4)
    trial = finish_trial(spec, tmp_path / "trial")
    translator = Translator.load(trial)
    rows = translator.saved.samples
    answers = translator.generate([str(row["question"]) for row in rows])
    assert [answer.text for answer in answers] == [row["bridged_output"] for row in rows]
    metrics = (translator.saved.record)["metrics"]
    written = metrics["cost/decoded_tokens/bridged"] - metrics["cost/decoded_tokens/random_soft"]
    assert written == pytest.approx(
        STEPS + sum(row["bridged_tokens"] - row["random_soft_tokens"] for row in rows) / len(rows)
    )
    width = translator.pair.source.hidden_size
    assert metrics["cost/state_bytes/bridged"] == STEPS * width * 4


def test_the_projection_has_no_tokens_to_bring_them_to() -> None:
    with pytest.raises(UserError, match="latent_steps needs geometry_projection=false"):
        tiny(latent_steps=2)


def test_a_question_is_refused_unless_the_source_has_room_for_its_steps(folders: PairFolders) -> None:
    pair, splits, _ = bench(folders, **THOUGHTS)
    (item,) = pair.encoder(splits.test[:1])
    pair.source.context = len(item.source_ids) + STEPS
    check_question(pair, item, 6)
    think(pair.source, [item], STEPS)
    pair.source.context -= 1
    with pytest.raises(TooLongError, match=r"with its prompt and 3 latent steps takes .*: ask a shorter question"):
        check_question(pair, item, 6)
