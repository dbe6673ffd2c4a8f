"""What a result of a benchmark measured: every time, rate and size of memory, by a name that says of what.

A key's words say what its value is: `ms`, `s`, `seconds` and `h` are times, `gib` and `peak_mib` sizes of memory,
`..._per_s`, `..._per_second` and `..._a_second` rates. All numbers below such a key are of its kind, but for sizes and
settings (`SIZES`). Those are part of the name instead: a row of a list is found by its way, variant or trial and its
sizes, never by its place, and times of other sizes have other names, so that they are not compared.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from statistics import median
from typing import Any, Literal

Kind = Literal["time", "rate", "memory"]

NAMES = ("name", "variant", "trial", "target", "way", "position", "size", "dtype")
SIZES = (
    *("rank", "shards", "processes", "workers", "nodes", "parallel", "clients", "trials", "steps", "evaluations"),
    *("items", "rows", "prompt", "prompt_tokens", "header", "header_tokens", "examples", "questions", "points"),
    *("parameters", "tokens", "new_tokens", "sweep", "job_s", "tune_s_per_trial", "load_s"),
)
"""Sizes and settings of a measurement: no speeds, though some are in seconds, such as how long a job was to sleep."""
LEFT_OUT = (
    *("environment", "ceilings", "machine", "versions", "metrics", "floor", "memory_gib", "limit"),
    *("ratio", "_over_", "_of_turns", "_of_pairs"),  # of two measured values; values whose median stands beside
)
BOUNDS = ("slope", "low", "high")
CAMPAIGN_TIMES = (
    *("begins", "ends", "start", "first_step", "last_step", "tested", "validations", "between", "gate"),
    *("command_to_first_trial", "two_trials", "four_trials"),
)
"""Seconds of `benchmarks.paper_campaign` whose keys have no unit."""
UNITS: Mapping[str, Kind] = {"ms": "time", "s": "time", "seconds": "time", "h": "time", "gib": "memory"}


def kind_of(key: str) -> Kind | None:
    """Return what a key's value measures by the words of the key, or None."""
    if re.search(r"(^|_)(per|a)_s(econd)?(_|$)", key):
        return "rate"
    if key in CAMPAIGN_TIMES:
        return "time"
    if key.endswith("peak_mib"):
        return "memory"
    return next((UNITS[word] for word in re.split(r"[\s_,:/()\[\]]+", key) if word in UNITS), None)


def label(row: Mapping[str, Any]) -> str:
    """Return what identifies a row among others: its way, variant or trial, and its sizes; empty if nothing does."""
    parts = [_text(key, row[key]) for key in NAMES if isinstance(row.get(key), str)]
    if isinstance(shape := row.get("geometry"), dict):
        parts.append(f"{shape.get('num_hidden_layers')} layers of {shape.get('hidden_size')}")
    for key in SIZES:
        value = row.get(key)
        if isinstance(value, list) and value and all(isinstance(each, str | int | float) for each in value):
            parts.append(f"{key} {' '.join(map(str, value))}")
        elif isinstance(value, str | int | float) and value is not False:
            parts.append(key if value is True else f"{key} {value}")
    return ", ".join(parts)


def _text(key: str, value: str) -> str:
    if key == "trial":
        return re.sub(r"-[0-9a-f]{8}$", "", value)  # without the digest of its settings, which a new field changes
    return PurePath(value).name if key == "target" else value  # which may be a folder


def quantities(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the times, rates and sizes of memory of one run, by name: one value each.

    A list of numbers counts with its median, or its largest if it is of memory; so do rows that nothing tells apart.
    """
    values: dict[str, list[float]] = {}
    for name, value in _walk(result, label(result), None):
        values.setdefault(name, []).append(value)
    return {name: combined(name, found) for name, found in values.items()}


def combined(name: str, values: Sequence[float]) -> float:
    """Return the one value of several that belong together: the largest of memory, the median otherwise."""
    return max(values) if kind_of_path(name) == "memory" else median(values)


def kind_of_path(name: str) -> Kind | None:
    """Return what a quantity measures by its name, whose last part with a unit counts."""
    return next((kind for part in reversed(name.split("/")) if (kind := kind_of(part))), None)


def _walk(value: Any, path: str, kind: Kind | None) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        inside = path.rpartition("/")[2]
        for written, inner in value.items():
            if any(part in written for part in LEFT_OUT) or written in BOUNDS or re.search(r"\bGB\b", written):
                continue
            if written in SIZES and not isinstance(inner, dict) and not _rows(inner):
                continue
            key = written.removeprefix(f"{inside}/")  # start/launch of `start`
            own = f"{key} ({which})" if isinstance(inner, dict) and (which := label(inner)) else key
            yield from _walk(inner, f"{path}/{own}" if path else own, kind_of(key) or kind)
    elif _rows(value):
        for i, row in enumerate(value):
            own = label(row) or (str(i) if len(value) > 1 else "")
            yield from _walk(row, f"{path}/{own}" if own else path, kind)
    elif kind is not None:
        found = _flat(value) if kind == "memory" else value if isinstance(value, list) else [value]
        if found and all(isinstance(v, int | float) and not isinstance(v, bool) and v > 0 for v in found):
            yield path, max(found) if kind == "memory" else median(found)


def _rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _flat(value: Any) -> list[Any]:
    return [each for inner in value for each in _flat(inner)] if isinstance(value, list) else [value]
