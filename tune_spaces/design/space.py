"""The search space of a plan: every setting that differs between its trials, and the toggles."""

from collections.abc import Iterable, Mapping
from typing import Any

from tune_spaces.design.toggles import all_toggles

ALWAYS = ("soft_tokens",)
"""Fields of the spec that are part of every space, so that the tables of campaigns can be joined on them."""
_NOT_SEARCHED = ("seed", "text_budgets")  # every suggestion names its seed; baselines are no setting of a translator


def space(specs: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of every toggle, of `ALWAYS`, and of each other field in which trials differ.

    Args:
        specs: flat specs of the trials.

    Returns:
        Values by field: a toggle's are on, off and any other that a trial has; those of other fields are in the order
        in which the trials have them.
    """
    flat = list(specs)
    values: dict[str, dict[str, Any]] = {
        t.field: {repr(value): value for value in (t.on, t.off)} for t in all_toggles()
    }
    named = {*values, *ALWAYS}
    for field in dict.fromkeys([*values, *ALWAYS, *(name for spec in flat for name in spec)]):
        known = values.setdefault(field, {})
        for spec in flat:
            value = _plain(spec.get(field))
            known.setdefault(repr(value), value)
    return {
        field: list(known.values())
        for field, known in values.items()
        if known and field not in _NOT_SEARCHED and (field in named or len(known) > 1)
    }


def point(spec: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """Return a spec's values of some fields: None for a field that it does not have, and a mapping's name."""
    return {field: _plain(spec.get(field)) for field in fields}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get("name", str(value))
    return list(value) if isinstance(value, tuple) else value
