"""Import a package's public names when they are first used, so that `import ray_bridge` takes milliseconds."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__` (PEP 562) for names that its submodules define.

    Args:
        package: the package's `__name__`.
        homes: the module of each public name, e.g. `{"JobSpec": "ray_bridge.config.spec"}`.

    Returns:
        The two functions, to be assigned to `__getattr__` and `__dir__` in the package's `__init__.py`.
    """

    def resolve(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(home), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return resolve, names
