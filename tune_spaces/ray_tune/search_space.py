"""The settings in which trials differ, as Ray Tune's search space."""

from collections.abc import Iterable
from typing import Any

from ray import tune

from tune_spaces.design.plan import PlannedTrial
from tune_spaces.design.space import space


def search_space(trials: Iterable[PlannedTrial] = ()) -> dict[str, Any]:
    """Return Tune's search space: one categorical domain per toggle and per other field in which the trials differ."""
    return {field: tune.choice(values) for field, values in space(trial.spec.flat() for trial in trials).items()}
