"""Where Ray's own messages go: into a file of the campaign, so that a terminal shows the campaign's."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOGGERS = ("ray", "ray.tune", "ray.train", "ray.data", "ray.serve")


@contextmanager
def ray_messages_in(path: Path) -> Iterator[None]:
    """Append what Ray's loggers and native code write to standard error to a file while the body runs.

    What Python code prints to `sys.stderr` still reaches the terminal.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as log, _loggers_to(path), _descriptor_to(log.fileno()):
        yield


@contextmanager
def _loggers_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers[:], logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers = [handler]
        logger.propagate = False  # each has the handler itself
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        handler.close()


@contextmanager
def _descriptor_to(log: int) -> Iterator[None]:
    """Let descriptor 2 write to the log, and Python's `sys.stderr` to where descriptor 2 wrote before."""
    sys.stderr.flush()
    terminal, stream = os.dup(2), sys.stderr
    replaced = _writes_to_descriptor_2(stream)
    if replaced:
        sys.stderr = os.fdopen(os.dup(terminal), "w", buffering=1, errors="backslashreplace")
    os.dup2(log, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        if replaced:
            own, sys.stderr = sys.stderr, stream
            own.close()


def _writes_to_descriptor_2(stream: object) -> bool:
    try:
        return bool(stream.fileno() == 2)  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False
