"""The registered toggles as Ray Tune's search space."""

from typing import Any

from ray import tune

from tune_spaces.design.toggles import all_toggles


def search_space() -> dict[str, Any]:
    """Return Tune's search space: one categorical domain per toggle, by the spec's field."""
    return {toggle.field: tune.choice([toggle.on, toggle.off]) for toggle in all_toggles()}
