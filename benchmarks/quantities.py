"""What a result of a benchmark measured: every time, rate and size of memory, by a name that says of what.

A key's words say what its value is: `ms`, `s`, `seconds` and `h` are times, `gib` and `peak_mib` sizes of memory,
`..._per_s`, `..._per_second` and `..._a_second` rates. All numbers below such a key are of its kind, but for sizes and
settings (`SIZES`). Those are part of the name instead: a row of a list is found by its way, variant or trial and its
sizes, never by its place, and times of other sizes have other names, so that they are not compared. Of several rows,
those with neither are left out. Only finite numbers above zero are measurements; `gaps` tells of all else.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from statistics import median
from typing import Any, Literal, NamedTuple

Kind = Literal["time", "rate", "memory"]

NAMES = ("name", "variant", "trial", "target", "way", "position", "size", "dtype")
SIZES = (
    *("rank", "shards", "processes", "workers", "nodes", "parallel", "clients", "trials", "steps", "evaluations"),
    *("items", "rows", "prompt", "prompt_tokens", "header", "header_tokens", "examples", "questions", "points"),
    *("parameters", "tokens", "new_tokens", "sweep", "job_s", "tune_s_per_trial", "load_s"),
)
"""Sizes and settings of a measurement: no speeds, though some are in seconds, such as how long a job was to sleep."""
LEFT_OUT = (
    *("environment", "ceilings", "machine", "versions", "metrics", "floor", "floors", "memory gib", "limit", "limits"),
    *("ratio", "ratios", "over", "of turns", "of pairs"),  # of two measured values; values whose median stands beside
)
"""Whole words of a key, so that `generation_s` is a time although `ratio` is part of it."""
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

    A list of numbers counts with its median, or its largest if it is of memory; so do rows of the same name and sizes.
    """
    return contents(result).quantities()


class Step(NamedTuple):
    """One step of the way to a quantity: its name and the key it stands under, which differ if a label is in the name.

    A way begins with the run, whose name is its label and whose key is empty.
    """

    name: str
    key: str


Way = tuple[Step, ...]


class Lack(NamedTuple):
    """Why a run has no usable value of a quantity.

    Attributes:
        instead: `missing`, or what stands in its place.
        part: the row, section or run of which nothing is there, as if it had not been measured; else empty.
    """

    instead: str
    part: str = ""


@dataclass
class Contents:
    """What one run holds.

    Attributes:
        measured: usable values, by the way to them.
        others: what else stands there, such as NaN, null or a text.
        sections: the run itself, its rows and its other groups of values.
        unlabelled: lists of measured rows that have neither name nor size, and are left out.
    """

    measured: dict[Way, list[float]] = field(default_factory=dict)
    others: dict[Way, Any] = field(default_factory=dict)
    sections: set[Way] = field(default_factory=set)
    unlabelled: list[str] = field(default_factory=list)

    def quantities(self) -> dict[str, float]:
        """Return one value of each quantity, by name."""
        values: dict[str, list[float]] = {}
        for way, found in self.measured.items():
            values.setdefault(name_of(way), []).extend(found)
        return {name: combined(name, found) for name, found in values.items()}

    def lack(self, way: Way, *, whole: bool) -> Lack | None:
        """Return why there is no usable value at the end of a way, or None if there is one.

        Args:
            way: the way to a quantity that another run has.
            whole: each such run has all sections without label, so that an absent one is a lack. Rows and sections with
                a label, which are of a way or size of their own, may always be absent.
        """
        if way in self.others:
            return Lack(said(self.others[way]))
        if way in self.measured:
            return None
        depth = next((end for end in range(len(way) - 1, 0, -1) if way[:end] in self.sections), 0)
        if depth == len(way) - 1:
            return Lack("missing")
        absent, step = name_of(way[: depth + 1]), way[depth]
        place = (*way[:depth], Step(step.key, step.key))
        if not whole or not depth or (step.name != step.key and place not in self.others):
            return Lack("missing", absent or "results without a size")
        return Lack(said(self.others[place]) if place in self.others else "missing")


def contents(result: Mapping[str, Any]) -> Contents:
    """Return what one run holds: its measurements, what stands in their place, and its sections."""
    found = Contents()
    _read(found, result, (Step(label(result), ""),), None)
    return found


def name_of(way: Way) -> str:
    """Return the name of what a way leads to, such as `train (rows 8)/step_ms`."""
    return "/".join(step.name for step in way if step.name)


def combined(name: str, values: Sequence[float]) -> float:
    """Return the one value of several that belong together: the largest of memory, the median otherwise."""
    return max(values) if kind_of_path(name) == "memory" else median(values)


def kind_of_path(name: str) -> Kind | None:
    """Return what a quantity measures by its name, whose last part with a unit counts."""
    return next((kind for part in reversed(name.split("/")) if (kind := kind_of(part))), None)


def _read(found: Contents, section: Mapping[str, Any], way: Way, kind: Kind | None) -> None:
    found.sections.add(way)
    for written, inner in section.items():
        if _left_out(written) or (written in SIZES and not isinstance(inner, dict) and not _rows(inner)):
            continue
        key = written.removeprefix(f"{way[-1].key}/")  # start/launch of `start`
        its_kind = kind_of(key) or kind
        if isinstance(inner, dict):
            own = label(inner)
            _read(found, inner, (*way, Step(f"{key} ({own})" if own else key, key)), its_kind)
        elif _rows(inner):
            _read_rows(found, inner, way, key, its_kind)
        else:
            _read_value(found, inner, (*way, Step(key, key)), its_kind)


def _left_out(key: str) -> bool:
    words = f" {' '.join(re.findall('[a-z]+', key.lower()))} "
    return any(f" {part} " in words for part in LEFT_OUT) or key in BOUNDS or bool(re.search(r"\bGB\b", key))


def _read_rows(found: Contents, rows: Sequence[Mapping[str, Any]], way: Way, key: str, kind: Kind | None) -> None:
    for row in rows:
        own = label(row)
        read = found if own or len(rows) == 1 else Contents()
        _read(read, row, (*way, Step(f"{key}/{own}" if own else key, key)), kind)
        if read is not found and read.measured:
            found.unlabelled.append(name_of((*way, Step(key, key))))


def _read_value(found: Contents, value: Any, way: Way, kind: Kind | None) -> None:
    each = _flat(value) if kind == "memory" else value if isinstance(value, list) else [value]
    if kind is None or not each or not all(map(_usable, each)):
        found.others[way] = value
    else:
        found.measured.setdefault(way, []).append(float(max(each) if kind == "memory" else median(each)))


def _usable(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return 0 < float(value) < math.inf  # which NaN is not
    except OverflowError:  # a whole number of hundreds of digits
        return False


def said(value: Any) -> str:
    """Return what stands in a measurement's place, shortened."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _flat(value: Any) -> list[Any]:
    return [each for inner in value for each in _flat(inner)] if isinstance(value, list) else [value]
