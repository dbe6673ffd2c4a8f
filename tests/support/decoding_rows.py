"""Rows, soft tokens and adapters for tests that compare ways to decode and to run a frozen model."""

import torch
from torch import Tensor

from ray_bridge.bridges.injection import Injection
from ray_bridge.config.spec import JobSpec
from ray_bridge.inputs.layout import answer_row
from ray_bridge.inputs.rows import Row
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.noise import normal
from ray_bridge.tasks.synthetic.task import SyntheticTask

TASK = SyntheticTask(train_examples=40, test_examples=40)
SOFT_TOKENS = 5


def rows_of(
    lm: FrozenLM, count: int, *, header: int = 0, soft_after_header: bool = False, answers: bool = False
) -> list[Row]:
    """Lay out test questions for a model.

    Args:
        lm: the target model.
        count: number of questions.
        header: number of few-shot examples in front of each question.
        soft_after_header: whether soft tokens come between header and question, or first.
        answers: whether the rows end with the gold answer, as in training.
    """
    text = TASK.header(TASK.train()[:header]) if header else ""
    return [
        answer_row(
            lm, text, TASK.prompt(e), TASK.continuation(e) if answers else None, soft_after_header=soft_after_header
        )
        for e in TASK.test()[:count]
    ]


def soft_of(lm: FrozenLM, count: int, injection: Injection | None = None) -> SoftContext:
    """Return `tokens_of` a model with the adapters of an injection, without adapters if it is None."""
    return SoftContext(adapters={} if injection is None else injection.adapters, tokens=tokens_of(lm, count))


def tokens_of(lm: FrozenLM, count: int) -> Tensor:
    """Return seeded soft tokens of the size of the model's embeddings, (count, K, d_t), on its device."""
    noise = normal((SOFT_TOKENS, lm.hidden_size), [("test", i) for i in range(count)])
    return noise.to(lm.device, lm.dtype) * lm.embedding_rms


def adapters_of(lm: FrozenLM) -> Injection:
    """Return adapters with open gates in layers 1 and 3, equal for all models of one shape."""
    spec = JobSpec(injection="adapter", adapter_layers=(1, 3), hidden_size=16, num_heads=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        injection = Injection(spec, lm).to(lm.device, lm.dtype)
    for adapter in injection.adapters.values():
        torch.nn.init.constant_(adapter.gate, 1.5)
    return injection
