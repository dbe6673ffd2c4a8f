"""The embedded pair as it ships, and the parts of the recipe that made it."""

import random
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import ray_bridge.embedded_pair
from bridge_common.files import read_json
from ray_bridge.embedded_pair.recipe import compiled_forward, context_notes
from ray_bridge.embedded_pair.recipe.architectures import load
from ray_bridge.embedded_pair.recipe.linear_probe import layer_probe
from ray_bridge.embedded_pair.recipe.measure import accuracy, measure_target, missing_numbers, prompts, solve
from ray_bridge.embedded_pair.recipe.model_card import write_card
from ray_bridge.embedded_pair.recipe.muon import orthogonalised, trapezoid
from ray_bridge.embedded_pair.recipe.pretraining_corpus import ANSWER, shard
from ray_bridge.tasks.synthetic.lexicon import lexicon, vocabulary
from ray_bridge.tasks.synthetic.problems import make_examples, prompt

PAIR = Path(ray_bridge.embedded_pair.__file__).parent
SIDES = ("source", "target")


@pytest.fixture(scope="module")
def pair():
    return {side: load(PAIR / side, "cpu") for side in SIDES}


def test_the_architectures_differ_as_in_the_large_pair(pair):
    (source, read), (target, write) = pair["source"], pair["target"]
    assert type(source).__name__ == "MistralForCausalLM"
    assert type(target).__name__ == "LlamaForCausalLM"
    assert source.config.hidden_size != target.config.hidden_size
    assert source.config.rope_parameters["rope_theta"] == 1e6
    assert target.config.rope_parameters["rope_theta"] == 5e5
    assert len(read) != len(write)


def test_it_is_small_and_half_precision():
    files = [f for side in SIDES for f in (PAIR / side).iterdir()]
    assert sum(f.stat().st_size for f in files) <= 8 * 2**20
    for side in SIDES:
        with safe_open(PAIR / side / "model.safetensors", "pt") as weights:
            assert {weights.get_tensor(k).dtype for k in weights.keys()} == {torch.float16}  # noqa: SIM118


@pytest.mark.parametrize("side", SIDES)
def test_tokenizer_cuts_prompt_and_answer_cleanly(pair, side):
    tokenizer = pair[side][1]
    for item in make_examples("validation", 2000, 3):
        ask = tokenizer(prompt(item.question)).input_ids
        full = tokenizer(f"{prompt(item.question)} {item.answer}").input_ids
        assert full[: len(ask)] == ask
        assert full.count(tokenizer.bos_token_id) == 1
        assert full[0] == tokenizer.bos_token_id
        assert tokenizer.decode(full, skip_special_tokens=True) == f"{prompt(item.question)} {item.answer}"


@pytest.mark.parametrize("side", SIDES)
@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="▁<"), max_size=40))
def test_tokenizer_loses_nothing(pair, side, text):
    tokenizer = pair[side][1]
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_numbers_are_single_digits_in_both(pair):
    for side in SIDES:
        tokens = pair[side][1].tokenize("has 472 plums")
        assert [re.sub(r"\D", "", t) for t in tokens if re.search(r"\d", t)] == ["4", "7", "2"]


def test_a_withheld_word_has_a_piece_that_no_shown_word_has(pair):
    tokenizer = pair["source"][1]

    def pieces(text: str) -> set[str]:
        return set(tokenizer.tokenize(f"has {text}"))

    shown = set().union(*(pieces(e.text) for e in lexicon() if not e.transfer))
    assert [e.text for e in lexicon() if e.transfer and pieces(e.text) <= shown] == []


@pytest.mark.slow
def test_source_knows_the_words_and_target_only_numerals(pair):
    items = make_examples("test", 90, 0)
    source, read = pair["source"]
    knows = accuracy(items, solve(source, read, prompts(source, read, items)))
    assert knows["all"] >= 0.95
    target, write = pair["target"]
    figures = measure_target(target, write, items)
    assert figures["alone"]["none"] >= 0.98
    assert figures["random soft tokens"]["none"] >= 0.95
    worded = [i for i in items if i.words != "none"]
    alone = accuracy(worded, solve(target, write, prompts(target, write, worded)))
    assert alone["all"] <= 0.2
    assert figures["note of missing numbers"]["all"] >= 0.95
    assert figures["note of missing numbers amid noise"]["all"] >= 0.95


def test_the_card_is_written_from_what_was_measured(tmp_path):
    figures = read_json(PAIR / "figures.json")
    assert figures["source"]["alone"]["transfer"] >= 0.95
    assert figures["source"]["alone"]["none"] >= 0.95
    assert figures["target"]["alone"]["none"] >= 0.98
    assert max(figures["target"]["alone"][g] for g in ("seen", "transfer")) <= 0.15
    assert 0.55 <= figures["target"]["alone"]["all"] <= 0.65
    card = (PAIR / "README.md").read_text()
    assert f"{figures['source']['parameters']:,}" in card
    write_card(tmp_path, figures)
    assert (tmp_path / "README.md").read_text() == card
    for side in SIDES:
        assert figures[side]["bytes"] == sum(f.stat().st_size for f in (PAIR / side).iterdir())


def test_value_of_withheld_words_is_linear_in_the_middle_layers(pair):
    probe = layer_probe(*pair["source"], 400)["token"]
    assert probe[3]["transfer"] > 0.9
    assert probe[3]["transfer"] > probe[0]["transfer"]


def test_missing_numbers_are_those_written_as_words():
    for item in make_examples("test", 500, 1):
        kept = re.findall(r"\d+", re.sub(r"1/(\d+)", r"\1", item.question))
        full = re.findall(r"\d+", re.sub(r"1/(\d+)", r"\1", item.numeral_question))
        assert sorted(kept + missing_numbers(item).split()) == sorted(full)


@pytest.mark.parametrize("stream", ["target-plain", "target-noted"])
def test_target_is_trained_without_number_words(pair, stream):
    block = shard(stream, PAIR / "target", 400, 0)
    tokenizer = pair["target"][1]
    unread = vocabulary() - {"a", "an", "one"}  # templates say "one of them"; no number is 1
    for ids, kind, weight in zip(block["X"], block["K"], block["W"], strict=True):
        text = tokenizer.decode([t for t, k in zip(ids, kind, strict=True) if k == context_notes.HARD])
        question = text[text.rfind("Question:") :]
        assert not set(re.findall(r"[A-Za-z]+", question)) & unread
        assert (weight == ANSWER).any()


def test_source_rows_mark_where_numbers_end(pair):
    block = shard("source", PAIR / "source", 200, 0)
    tokenizer = pair["source"][1]
    marked = 0
    for ids, values, ordinals in zip(block["X"], block["V"], block["T"], strict=True):
        for at in range(len(ids)):
            token = tokenizer.convert_ids_to_tokens(int(ids[at])).lstrip("▁")
            if values[at] >= 0 and token.isdigit() and not ordinals[at]:
                assert int(token) == values[at] % 10
            marked += bool(ordinals[at])
    assert marked > 100


def test_softened_notes_have_the_embeddings_size_and_leave_text_alone():
    torch.manual_seed(0)
    table = torch.randn(50, 16)
    table[2] = 0  # a pad's row may be exactly zero
    ids = torch.randint(3, 50, (64, 12))
    ids[:, 9:] = 2
    kinds = torch.zeros(64, 12, dtype=torch.long)
    kinds[:, 1:5], kinds[:, 5:8] = context_notes.PAYLOAD, context_notes.JUNK
    embeds = table[ids].requires_grad_()
    out = context_notes.soften(embeds, kinds, table, torch.Generator().manual_seed(1))
    assert torch.equal(out[:, 0], embeds[:, 0])
    assert torch.equal(out[:, 8:], embeds[:, 8:])
    size = context_notes.rms(out[:, 1:8]) / context_notes.rms(table).median()
    assert (size.amin() > 0.59) & (size.amax() < 1.51)
    assert ((size - 1).abs() < 1e-3).float().mean() > 0.3
    out.sum().backward()
    assert torch.isfinite(embeds.grad).all()


def test_notes_keep_their_payload_together():
    rng = random.Random(0)
    for soft in (True, False):
        ids, kinds = context_notes.note(rng, [7, 8, 9], soft, 20, 100)
        at = ids.index(7)
        assert len(ids) == len(kinds) == 23
        assert ids[at : at + 3] == [7, 8, 9] or ids.count(7) > 1
        assert kinds.count(context_notes.PAYLOAD) == (3 if soft else 0)


@pytest.mark.parametrize("side", SIDES)
def test_the_compiled_forward_pass_is_the_models_own(pair, side):
    model, tokenizer = pair[side]
    config = model.config
    rope = compiled_forward.rope_table(config.rope_parameters["rope_theta"], config.head_dim, 64, "cpu")
    ids = torch.randint(3, len(tokenizer), (3, 40), generator=torch.Generator().manual_seed(0))
    assert compiled_forward.disagreement(model, ids, rope) < 1e-3


@pytest.mark.parametrize("shape", [(2, 24, 16), (1, 16, 40)])
def test_muon_updates_have_even_singular_values(shape):
    update = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(update))
    assert (values > 0.3).all()
    assert (values < 1.4).all()


def test_the_schedule_ends_at_zero():
    assert trapezoid(0) == trapezoid(1) == 0
    assert trapezoid(0.3) == 1
    assert 0 < trapezoid(0.9) < 0.25


@pytest.mark.slow
def test_the_recipe_runs_from_end_to_end(tmp_path):
    import os
    import subprocess
    import sys

    command = [
        sys.executable,
        "-m",
        "ray_bridge.embedded_pair.recipe.train",
        "--out",
        str(tmp_path),
        "--scale=mini",
        "--minutes=1.15",
    ]
    root = Path(ray_bridge.embedded_pair.__file__).parents[2]
    done = subprocess.run(
        [*command, "--test=20", "--rows=1000", "--processes=1", "--device=cpu"],
        cwd=root,
        env=dict(os.environ, OMP_NUM_THREADS="1"),
        timeout=400,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "source" in (tmp_path / "README.md").read_text()
    for side in SIDES:
        model, tokenizer = load(tmp_path / side, "cpu")
        assert model.get_input_embeddings().num_embeddings == len(tokenizer)
