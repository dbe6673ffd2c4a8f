"""A set of steps is as exact as a `set`, and far smaller."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from bridge_common.step_set import StepSet


@given(steps=st.lists(st.integers(-3, 600) | st.integers(), max_size=200))
def test_a_step_is_new_once(steps: list[int]) -> None:
    exact, small = set[int](), StepSet()
    for step in steps:
        assert small.add(step) == (step not in exact)
        exact.add(step)


def test_a_million_steps_take_less_than_a_byte_each() -> None:
    steps = StepSet()
    assert all(steps.add(step) for step in range(1_000_000))
    pages = steps._pages
    assert sys.getsizeof(pages) + sum(map(sys.getsizeof, [*pages, *pages.values()])) < 1_000_000
