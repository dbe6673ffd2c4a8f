"""Results of functions of a job's spec, computed once for all specs that agree in the fields that were read for them.

Which fields these are is seen, not listed: a list would have to name what every plug-in's task reads, too, and what a
function reads tomorrow.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from ray_bridge.config.spec import JobSpec

Result = TypeVar("Result")


class SharedResults(Generic[Result]):
    """Calls a function of a spec, and remembers what it returned for specs that it cannot tell apart.

    Args:
        function: reads fields of the spec alone, and files that do not change meanwhile.
    """

    def __init__(self, function: Callable[[JobSpec], Result]) -> None:
        self.function = function
        self._known: list[tuple[dict[str, Any], Result]] = []

    def __call__(self, spec: JobSpec) -> Result:
        """Return the function's result for a spec."""
        for read, result in self._known:
            if all(getattr(spec, name) == value for name, value in read.items()):
                return result
        with _watched(spec) as (watched, read):
            result = self.function(watched)
        self._known.append((read, result))
        return result


class _WatchedSpec(JobSpec):
    """A spec that notes which of its fields are read."""

    def __getattribute__(self, name: str) -> Any:
        if (read := _READ.get(id(self))) is not None:
            fields = super().__getattribute__("__dict__")
            if name in fields:
                read[name] = fields[name]
            elif name == "__dict__" or name.startswith("model_"):
                read.update(fields)
        return super().__getattribute__(name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobSpec) and vars(self) == vars(other)

    __hash__ = JobSpec.__hash__


_READ: dict[int, dict[str, Any]] = {}
"""What was read of specs that are watched, by their id: seen in any thread that reads it."""


@contextmanager
def _watched(spec: JobSpec) -> Iterator[tuple[JobSpec, dict[str, Any]]]:
    """Give a copy of a spec, and the fields that are read of it, which grow until the block is left."""
    watched, read = copy.copy(spec), dict[str, Any]()
    object.__setattr__(watched, "__class__", _WatchedSpec)
    _READ[id(watched)] = read
    try:
        yield watched, read
    finally:
        del _READ[id(watched)]
