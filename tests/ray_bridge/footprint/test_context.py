"""How long a text each configuration allows, and the line that refuses a longer one, in a job as before it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridge_common.errors import UserError
from ray_bridge.config.presets import tiny_run
from ray_bridge.footprint.context import check_length, context_length
from ray_bridge.generation.generate import decode_rows
from ray_bridge.inputs.layout import assemble
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.architectures import exact_lm
from tests.support.decoding_rows import rows_of, soft_of
from tests.support.local_jobs import run_job, small_spec
from tests.support.model_pairs import PairFolders, make_pair


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"max_position_embeddings": 32}, 32),
        ({"max_position_embeddings": 32_768, "sliding_window": 4096}, 32_768),  # Mistral 7B v0.1
        ({"max_position_embeddings": 131_072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131_072),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, 16_384),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "dynamic", "factor": 4.0}}, 4096),
        (
            {
                "max_position_embeddings": 32_768,
                "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768},
            },
            131_072,
        ),
        (
            {
                "max_position_embeddings": 131_072,
                "original_max_position_embeddings": 4096,
                "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]},
            },
            4096,
        ),
        (
            {
                "max_position_embeddings": 131_072,
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0},
                    "sliding_attention": {"rope_type": "default"},
                },
            },
            131_072,
        ),
        ({}, None),
    ],
)
def test_the_context_of_a_configuration(config: dict[str, Any], limit: int | None) -> None:
    assert context_length(SimpleNamespace(**config)) == limit


def test_a_longer_text_is_refused_in_one_line_with_the_remedy() -> None:
    check_length("m", 32, 32, "a row")
    check_length("m", None, 10**9, "a row")
    with pytest.raises(UserError) as caught:
        check_length("m", 32, 75, "a row of text")
    message = str(caught.value)
    assert message.startswith("m reads 32 positions at most, and a row of text takes 75: lower num_fewshot, max_new_")
    assert "\n" not in message


def test_models_refuse_what_they_do_not_read() -> None:
    lm = exact_lm("llama", max_position_embeddings=64)
    rows = rows_of(lm, 2)
    soft = soft_of(lm, 2)
    longest = max(len(row.before) + len(row.prompt) for row in rows) + soft.tokens.shape[1]
    lm.context = longest
    assemble(lm, rows, soft, pad="right")
    with pytest.raises(UserError, match=f"a prompt with 4 new tokens takes {longest + 4}"):
        decode_rows(lm, rows, soft, 4)
    lm.context = longest - 1
    with pytest.raises(UserError, match=f"llama reads {longest - 1} positions at most, and a row of text with 5 soft"):
        assemble(lm, rows, soft, pad="right")


def test_a_job_beyond_the_context_ends_with_that_line(folders: PairFolders, tmp_path: Path) -> None:
    spec = small_spec(folders)
    trainer = Trainer(spec, tiny_run(workers=1), tmp_path, LocalSession(tmp_path), None)
    trainer.pair.target.context = 75
    with pytest.raises(UserError, match="reads 75 positions at most"):
        trainer._train_step()


def test_a_source_with_a_short_context_is_refused(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    config = Path(pair.source) / "config.json"
    config.write_text(config.read_text().replace('"max_position_embeddings": 2048', '"max_position_embeddings": 32'))
    with pytest.raises(UserError, match="source reads 32 positions at most, and the longest prompt takes"):
        run_job(small_spec(pair), tmp_path / "job")
