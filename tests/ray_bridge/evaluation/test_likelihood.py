"""Multiple choice by likelihood: the numbers of the model itself, with and without soft tokens, in any batch."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ray_bridge.bridges.translator import build_translator
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.presets import tiny
from ray_bridge.config.task_mapping import known_mapping
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.evaluation.likelihood import choices_of
from ray_bridge.model_pair import ModelPair
from ray_bridge.tasks.splits import Splits, load_splits
from tests.support.chat_tokenizers import chat_lm
from tests.support.model_pairs import PairFolders

DATA = str(Path(__file__).parents[2] / "data" / "mapped" / "arc_challenge")
CONDITIONS = ["bridged", "target_alone", "source_alone", "text_bridge", "shuffled_soft", "random_soft"]


def load(folders: PairFolders, kind: str, **changes: Any) -> tuple[ModelPair, Splits]:
    mapping = known_mapping("arc_challenge").replace(kind=kind)
    spec = tiny(
        **{
            "source": folders.source,
            "target": folders.target,
            "task": "mapped",
            "task_mapping": mapping,
            "task_data": DATA,
            "validation_examples": 1,
            "num_fewshot": 1,
            "soft_tokens": 3,
            "source_layer": 2,
            **changes,
        }
    )
    splits = load_splits(spec)
    return ModelPair.load(spec, splits, torch.device("cpu")).for_evaluation(), splits


def table(text: str) -> dict[str, tuple[float, float]]:
    rows = [line.split() for line in text.splitlines()]
    return {letter: (float(total), float(mean)) for letter, total, mean in rows}


@pytest.mark.parametrize("kind", ["letter_likelihood", "choice_likelihood"])
def test_log_likelihoods_are_those_of_the_model(folders: PairFolders, kind: str) -> None:
    pair, splits = load(folders, kind)
    (example, *_) = splits.test
    (row, *_) = Evaluator(pair, Worker(), 64, NodeCache(None)).evaluate(splits.test, None, ["target_alone"])
    told = table(row["target_alone_output"])
    lm, prompt = pair.target, splits.header + splits.task.prompt(example)
    continuations = splits.task.continuations(example)
    assert continuations is not None
    for letter, text in zip("ABCD", continuations, strict=True):
        ids = lm.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        whole = lm.tokenizer(prompt + text, add_special_tokens=False)["input_ids"]
        assert whole[: len(ids)] == ids
        logits = lm.model(torch.tensor([[lm.bos, *whole]])).logits[0].log_softmax(-1)
        expected = sum(float(logits[at, whole[at]]) for at in range(len(ids), len(whole)))
        assert told[letter] == pytest.approx((expected, expected / len(text.strip())), abs=1e-4)
    best = max(told, key=lambda letter: told[letter][0])
    assert (row["target_alone_answer"], row["target_alone_correct"]) == (best, best == example.gold)
    assert row["choices"] == list(example.choices)


def test_choices_in_a_conversation_are_written_as_its_template_writes_answers(folders: PairFolders) -> None:
    splits = load(folders, "letter_likelihood")[1]
    found = {style: choices_of(splits.task, chat_lm(style), splits.test[0]) for style in ("llama", "mistral")}
    written = {style: [chat_lm(style).tokenizer.decode(ids) for ids in c.tokens] for style, c in found.items() if c}
    assert written["llama"] == ["A", "B", "C", "D"]
    assert [text.strip() for text in written["mistral"]] == ["A", "B", "C", "D"]
    spaced = [chat_lm("mistral").tokenizer.convert_ids_to_tokens(c.tokens[0])[0] for c in [found["mistral"]] if c]
    assert spaced[0].startswith("▁")


@pytest.mark.parametrize("injection", ["prepend", "residual", "adapter"])
def test_every_condition_chooses_and_no_number_depends_on_the_batch(folders: PairFolders, injection: str) -> None:
    pair, splits = load(folders, "choice_likelihood", injection=injection)
    translator = build_translator(pair.spec, pair.source, pair.target).double().eval()
    samples = [
        Evaluator(pair, Worker(), size, NodeCache(None)).evaluate(splits.test, translator, CONDITIONS)
        for size in (1, 3, 64)
    ]
    assert samples[0] == samples[1] == samples[2]
    for row, example in zip(samples[0], splits.test, strict=True):
        for condition in CONDITIONS:
            assert row[f"{condition}_valid"]
            assert len(table(row[f"{condition}_output"])) == len(example.choices)
    outputs = {condition: [row[f"{condition}_output"] for row in samples[0]] for condition in CONDITIONS}
    assert outputs["source_alone"] != outputs["target_alone"]
    assert outputs["text_bridge"] != outputs["target_alone"]
    if injection == "prepend":
        # An untrained bridge says the same of every question, so shuffled soft tokens are its own.
        assert len({tuple(outputs[c]) for c in ("bridged", "target_alone", "random_soft")}) == 3
