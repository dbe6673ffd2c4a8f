"""Waits for what another process or thread does."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def wait_for(condition: Callable[[], Value], seconds: float = 60, reason: str = "the condition holds") -> Value:
    """Poll until a condition is true and return its value.

    Raises:
        AssertionError: if it is still false after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {reason}"
        time.sleep(0.1)
    return value
