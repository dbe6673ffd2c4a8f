"""Plug-ins for the length of a test: their modules can be imported, and what they register is gone afterwards."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

from ray_bridge import BRIDGES, TASKS
from tests.support.documents import blocks
from tune_spaces.design import toggles

EXAMPLE = "\n".join(blocks("docs/plugins.md", "python"))

WORDY = """
from ray_bridge import Setting
from ray_bridge.tasks.synthetic.task import SyntheticTask


class Wordy(SyntheticTask):
    settings = (Setting(name="words", default=1, meaning="before every question"),)

    @classmethod
    def from_spec(cls, spec):
        task = super().from_spec(spec)
        task.words = spec.extra["words"] + spec.warmup_steps
        return task

    def prompt(self, example):
        return "so " * self.words + super().prompt(example)
"""
"""A task whose prompts are longer by a setting of its own, and by a field of the spec that no other task reads."""


@contextmanager
def registries_kept() -> Iterator[None]:
    """Restore the registries of toggles, tasks and bridges at the end."""
    with ExitStack() as stack:
        for entries in (toggles._REGISTRY, TASKS._entries, BRIDGES._entries):
            stack.enter_context(mock.patch.dict(entries))
        yield


@contextmanager
def importable(folder: Path) -> Iterator[Path]:
    """Let this process import modules of a folder; afterwards they and what they registered are gone."""
    modules = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        with registries_kept():
            yield folder
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder):
                del sys.modules[name]
