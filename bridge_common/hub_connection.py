"""Whether the Hugging Face hub can be connected to, asked once: its clients try again for 23 s before each file."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

_PATIENCE = 2.0  # seconds for a connection
_REMEMBERED = 60.0  # seconds for which an answer holds


def hub_answers() -> bool:
    """Return whether the hub, or the proxy before it, answers at all; remembered for a minute."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and _answers(constants.ENDPOINT, int(time.monotonic() / _REMEMBERED))


@contextmanager
def cache_unless_hub_answers(*, asked: bool = True) -> Iterator[None]:
    """Let clients of the hub read only their caches while the body runs, if it does not answer (HF_HUB_OFFLINE).

    They then say at once what they lack.

    Args:
        asked: whether they ask the hub at all; if not, nothing changes.
    """
    from huggingface_hub import constants

    if not asked or constants.HF_HUB_OFFLINE or hub_answers():
        yield
        return
    modules: list[Any] = [constants, sys.modules.get("datasets.config")]
    before = [(module, module.HF_HUB_OFFLINE) for module in modules if module is not None]
    try:
        for module, _ in before:
            module.HF_HUB_OFFLINE = True
        yield
    finally:
        for module, value in before:
            module.HF_HUB_OFFLINE = value


@lru_cache(maxsize=4)
def _answers(endpoint: str, _period: int) -> bool:
    from httpx import HTTPError, Timeout
    from huggingface_hub.utils import get_session

    answered: list[bool] = []

    def ask() -> None:
        try:
            get_session().head(endpoint, timeout=Timeout(10.0, connect=_PATIENCE))
            answered.append(True)
        except (HTTPError, OSError):
            answered.append(False)

    thread = threading.Thread(target=ask, name="ask-hub", daemon=True)
    thread.start()
    thread.join(2 * _PATIENCE)  # a name server that is gone keeps the client longer than its own limit
    return answered == [True]
