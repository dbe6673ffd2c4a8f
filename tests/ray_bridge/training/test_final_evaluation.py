"""Seconds a question of the final evaluation, from what the evaluator timed."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ray_bridge.training.final_evaluation import _timings


def timings(world: int = 1, **seconds: float) -> dict[str, float]:
    evaluator: Any = SimpleNamespace(seconds=seconds, worker=SimpleNamespace(world=world), source_texts={})
    return _timings(cast(Any, evaluator), questions=10)


def test_seconds_are_those_of_a_worker_for_a_question() -> None:
    assert timings(bridged=5.0) == {"cost/seconds/bridged": 0.5}
    assert timings(world=4, bridged=5.0) == {"cost/seconds/bridged": 2.0}


def test_the_text_bridge_waits_for_the_source() -> None:
    found = timings(source_alone=3.0, text_bridge=5.0)
    assert found["cost/seconds/text_bridge"] == pytest.approx(0.8)


def test_without_the_sources_time_the_text_bridge_has_none() -> None:
    """The source's answers were in the cache, those of text_bridge were not."""
    assert timings(text_bridge=5.0, bridged=1.0) == {"cost/seconds/bridged": 0.1}
