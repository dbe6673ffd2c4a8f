"""The settings in which trials differ, as Ray Tune's search space."""

from collections.abc import Iterable
from typing import Any

from ray import tune

from ray_bridge import JobSpec
from tune_spaces.design.search import Axis
from tune_spaces.design.space import space


def search_space(specs: Iterable[JobSpec] = (), axes: Iterable[Axis] = ()) -> dict[str, Any]:
    """Return Tune's search space: a domain per toggle and per other field in which the trials differ.

    Args:
        specs: of the trials.
        axes: what a search varies; a range of numbers is a range in the space, too.
    """
    fields = {field: tune.choice(values) for field, values in space(spec.flat() for spec in specs).items()}
    return {**fields, **{axis.field: domain(axis) for axis in axes if not axis.values}}


def domain(axis: Axis) -> Any:
    """Return Tune's domain of an axis."""
    if axis.values:
        return tune.choice(list(axis.values))
    if axis.scale == "int":
        return tune.randint(int(axis.low), int(axis.high) + 1)
    return tune.loguniform(axis.low, axis.high) if axis.scale == "log" else tune.uniform(axis.low, axis.high)
