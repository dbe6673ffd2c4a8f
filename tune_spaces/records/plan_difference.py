"""In which settings a plan differs from the frozen one of its campaign, in words that name the fields."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ray_bridge import JobSpec
from tune_spaces.design.plan import Plan
from tune_spaces.design.search import Search

MOST_NAMED = 4  # fields, values or variants in a message


def differences(frozen: Mapping[str, Any], plan: Plan) -> list[str]:
    """Return what differs between `plan.json` and a plan; nothing if they measure the same.

    Args:
        frozen: the content of `plan.json`.
        plan: the plan made now.
    """
    difference = identity_difference(frozen["identity"], plan.identity)
    if difference is None:
        return []
    return [*changed_fields(frozen.get("base") or {}, plan.base), *_changed_trials(frozen, plan), difference]


def identity_difference(frozen: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Return in a few words what differs between the identities of two plans, or None if they agree."""
    for name in ("phase", "passes", "attribute"):
        if frozen[name] != new[name]:
            return f"{name} was {frozen[name]}, now {new[name]}"
    if frozen.get("search") != new.get("search"):
        return f"search was {_search_text(frozen)}, now {_search_text(new)}"
    before, after = set(frozen["trials"].values()), set(new["trials"].values())
    if before == after:
        return None
    if before < after:
        return f"its {_trials(len(before))} would be {len(after)}"
    if after < before:
        return f"{len(before - after)} of its {_trials(len(before))} would no longer be planned"
    return f"{len(before - after)} of its {_trials(len(before))} would measure something else now"


def changed_fields(frozen: Mapping[str, Any], base: JobSpec) -> list[str]:
    """Return in words which fields of a base spec differ from those in `plan.json`, at most `MOST_NAMED` of them."""
    now = json.loads(json.dumps(base.model_dump()))
    changed = [name for name in now if name in frozen and frozen[name] != now[name]]
    return _at_most([f"{name} was {_value(frozen[name])}, now {_value(now[name])}" for name in changed], "fields")


def _changed_trials(frozen: Mapping[str, Any], plan: Plan) -> list[str]:
    """Return in which seeds and fields, or else in which variants, the trials of two plans differ."""
    before = [row["changes"] for row in frozen["trials"]]
    now = json.loads(json.dumps([plan.changes(trial) for trial in plan.trials.values()]))
    parts = []
    if list(frozen["seeds"]) != list(plan.seeds):
        parts.append(f"seeds were {_values(frozen['seeds'])}, now {_values(plan.seeds)}")
    fields = {name: None for changes in (*before, *now) for name in changes if name != "seed"}
    base_before, base_now = frozen.get("base") or {}, plan.base.flat()
    for name in fields:
        old, new = _taken(name, before, base_before), _taken(name, now, base_now)
        if set(map(repr, old)) != set(map(repr, new)) and (len(old) > 1 or len(new) > 1):
            parts.append(f"{name} was {_values(old)}, now {_values(new)}")
    if not parts:
        old_names, new_names = [row["variant"] for row in frozen["trials"]], [t.variant for t in plan.trials.values()]
        for label, these, those in (("without", old_names, new_names), ("with", new_names, old_names)):
            if names := [name for name in dict.fromkeys(these) if name not in those]:
                parts.append(f"{label} the variants {_values(names)}")
    return _at_most(parts, "fields")


def _taken(field: str, changes: Iterable[Mapping[str, Any]], base: Mapping[str, Any]) -> list[Any]:
    """Return the values that trials give a field, each once, in their order."""
    values = [each.get(field, base.get(field)) for each in changes]
    return [value for number, value in enumerate(values) if value not in values[:number]]


def _at_most(parts: list[str], of: str) -> list[str]:
    more = len(parts) - MOST_NAMED
    return [*parts[:MOST_NAMED], *([f"{more} further {of}"] if more > 0 else [])]


def _values(values: Sequence[Any]) -> str:
    return ", ".join(_at_most([_value(value) for value in values], "ones"))


def _value(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _trials(count: int) -> str:
    return f"{count} trial" if count == 1 else f"{count} trials"


def _search_text(identity: Mapping[str, Any]) -> str:
    search = Search.from_record(identity.get("search"))
    if search is None:
        return "none"
    return f"{search.trials} trials over {', '.join(f'{axis.field}={axis.text}' for axis in search.axes)}"
