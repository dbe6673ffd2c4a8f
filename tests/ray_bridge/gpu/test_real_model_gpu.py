"""On a GPU: a real model takes every fast path in both prompt formats, and writes the text of its own `generate`."""

from pathlib import Path

import pytest
import torch

from ray_bridge.config.presets import tiny
from ray_bridge.generation.eager import decode_eager
from ray_bridge.generation.graphed import decode_graphed
from ray_bridge.generation.statistics import DecodingStatistics
from ray_bridge.inputs.encoding import Encoder
from ray_bridge.inputs.rows import Row
from ray_bridge.models.accuracy import SAMPLE
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.splits import Splits
from ray_bridge.tasks.synthetic.task import SyntheticTask
from tests.support.fast_paths import assert_every_fast_path

pytestmark = [pytest.mark.gpu, pytest.mark.real]
TASK = SyntheticTask(train_examples=8, test_examples=4)
LIMIT = 32


def load(folder: Path, dtype: str) -> FrozenLM:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return FrozenLM.load(str(folder), dtype=dtype, device="cuda", texts=[SAMPLE])


def rows_in(lm: FrozenLM, prompt_format: str) -> list[Row]:
    spec = tiny(prompt_format=prompt_format, num_fewshot=2)
    splits = Splits.of(TASK, TASK.train()[:2])
    encode = Encoder(spec, TASK, splits.header, lm, lm, exemplars=splits.exemplars)
    return [item.text_row.without_answer() for item in encode(TASK.test())]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_fast_path_is_on(real_model: Path, dtype: str) -> None:
    lm = load(real_model, dtype)
    assert_every_fast_path(lm, dtype)


@pytest.mark.parametrize("prompt_format", ["raw", "chat"])
def test_text_is_that_of_generate(real_model: Path, prompt_format: str) -> None:
    lm = load(real_model, "float32").reading("chat" if prompt_format == "chat" else "raw")
    rows, statistics = rows_in(lm, prompt_format), DecodingStatistics()
    captured = decode_graphed(lm, rows, None, LIMIT, stops=TASK.stops, statistics=statistics)
    assert statistics.captured > 0
    assert captured == decode_eager(lm, rows, None, LIMIT, stops=TASK.stops)
    for row, ids in zip(rows, captured, strict=True):
        given = torch.tensor([row.before + row.prompt], device="cuda")  # (1, T)
        made = lm.model.generate(
            input_ids=given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=LIMIT,
            do_sample=False,
            eos_token_id=sorted(lm.ends),
            pad_token_id=lm.pad,
            stop_strings=list(TASK.stops) or None,
            tokenizer=lm.tokenizer,
        )
        assert made[0, given.shape[1] :].tolist() == ids
