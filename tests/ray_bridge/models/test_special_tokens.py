"""The ids that open, end and pad sequences: of a model's vocabulary, from its tokenizer and both of its configs."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from ray_bridge.generation.eager import decode_eager
from ray_bridge.generation.graphed import decode_graphed
from ray_bridge.models.frozen_lm import FrozenLM
from tests.support.decoding_rows import rows_of
from tests.support.model_pairs import save_checkpoint


def edit(path: Path, **changes: Any) -> None:
    record = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(record | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "model", "llama")


@pytest.fixture
def without_tokenizer_end(folder: Path) -> Path:
    edit(folder / "tokenizer_config.json", eos_token=None)
    edit(folder / "special_tokens_map.json", eos_token=None)
    return folder


def test_ends_that_only_the_generation_config_names_are_taken(without_tokenizer_end: Path) -> None:
    edit(without_tokenizer_end / "config.json", eos_token_id=None)
    edit(without_tokenizer_end / "generation_config.json", eos_token_id=[7, 5])
    with pytest.warns(UserWarning, match="no end-of-sequence token; 7 of the model is used"):
        lm = FrozenLM.load(str(without_tokenizer_end))
    assert (lm.eos, lm.ends) == (7, {5, 7})


@pytest.mark.parametrize("named", [[], [99_999], None])
def test_a_model_without_an_end_in_its_vocabulary_is_refused(without_tokenizer_end: Path, named: Any) -> None:
    for file in ("config.json", "generation_config.json"):
        edit(without_tokenizer_end / file, eos_token_id=named)
    with pytest.raises(UserError, match="names no end-of-sequence token of its vocabulary: set eos_token"):
        FrozenLM.load(str(without_tokenizer_end))


def test_ids_beyond_the_vocabulary_are_not_taken(folder: Path) -> None:
    sound = FrozenLM.load(str(folder))
    edit(folder / "config.json", eos_token_id=[99_999, 5])
    edit(folder / "generation_config.json", eos_token_id=[-1, 6, 99_999])
    lm = FrozenLM.load(str(folder))
    assert (lm.bos, lm.eos, lm.ends) == (sound.bos, sound.eos, {sound.eos, 5, 6})


def test_a_pad_token_that_the_embedding_lacks_fills_no_batch(folder: Path) -> None:
    """Fine-tuned models often have one that was added to the tokenizer alone."""
    sound = FrozenLM.load(str(folder), dtype="float64")
    tokenizer = copy.deepcopy(sound.tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    lm = FrozenLM(sound.model, tokenizer, "m")
    assert tokenizer.pad_token_id >= lm.model.get_input_embeddings().weight.shape[0]
    assert lm.pad == lm.eos
    rows = rows_of(lm, 3)
    assert decode_eager(lm, rows, None, 8) == decode_eager(sound, rows, None, 8)
    assert decode_graphed(lm, rows, None, 8) == decode_graphed(sound, rows, None, 8)
