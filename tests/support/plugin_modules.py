"""Modules of a plug-in, written to a folder from which this process can import them for the length of a test."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray_bridge import BRIDGES, TASKS
from tests.support.documents import blocks
from tune_spaces.design import toggles

EXAMPLE = "\n".join(blocks("docs/plugins.md", "python"))


@contextmanager
def importable(folder: Path) -> Iterator[Path]:
    """Let this process import modules of a folder; afterwards they and what they registered are gone."""
    modules, keys = set(sys.modules), {toggle.key for toggle in toggles.all_toggles()}
    names = [(registry, {entry.name for entry in registry.entries()}) for registry in (TASKS, BRIDGES)]
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder):
                del sys.modules[name]
        for key in {toggle.key for toggle in toggles.all_toggles()} - keys:
            toggles.unregister(key)
        for registry, known in names:
            for entry in registry.entries():
                if entry.name not in known:
                    registry.unregister(entry.name)
