"""What results of a benchmark cannot be compared by: what one measured and another lacks, or has as no number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.quantities import Contents, Way, contents, kind_of_path, name_of, said

ROUNDED = 0.1
"""Seconds, milliseconds or GiB below which a difference is no more than that of rounded figures."""
SHOWN = 12  # lines of a list; of what lies beyond them, the count is enough


@dataclass
class Gaps:
    """What two sets of runs have that is not compared.

    Attributes:
        new: lines on what BASE measured and NEW has no usable value of in some run.
        failed: whether one of them is more than a small figure that may be rounded to 0.
        values: whether one of these has something else in its place, such as NaN, instead of being absent.
        base: lines on what NEW measured and BASE has no usable value of, although something stands there.
        absent: rows, sections and runs of BASE of which NEW has nothing, as after a run of other sizes.
        unlabelled: lists whose rows nothing tells apart.
    """

    new: list[str] = field(default_factory=list)
    failed: bool = False
    values: bool = False
    base: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return what to print of them."""
        lines = []
        for title, found in (
            ("lacking in NEW, or no finite number above zero: measure again, or choose a BASE without it", self.new),
            ("no finite number above zero in BASE: measure it again", self.base),
            ("not compared, since NEW has nothing of that size, way or part", self.absent),
            ("left out, since the rows have no name or size to tell them apart", self.unlabelled),
        ):
            if found:
                lines += [f"{title}:", *(f"  {line}" for line in found[:SHOWN])]
            if len(found) > SHOWN:
                lines.append(f"  and {len(found) - SHOWN} more")
        return lines


def gaps(base: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Gaps:
    """Find what cannot be compared although one of two sets of runs measured it.

    Only the same command must give the same sections; a run without a command may be of any. What some runs of BASE
    lack may be missing in some of NEW, too.

    Args:
        base: the runs of the baseline.
        new: the runs that are judged.

    Returns:
        The gaps in the order of the first file.
    """
    old, now = ([(contents(result), _command(result)) for result in side] for side in (base, new))
    found = Gaps(unlabelled=list(dict.fromkeys(name for run, _ in (*old, *now) for name in run.unlabelled)))
    for way in dict.fromkeys(way for run, _ in old for way in run.measured):
        commands = {command for run, command in old if way in run.measured}
        (before, _), (after, parts) = (_ends(way, side, commands) for side in (old, now))
        instead = {*after} - {""}
        if not after and (part := max(parts, key=len)) not in found.absent:
            found.absent.append(part)
        if not instead or ("" in after and instead == {"missing"} and "missing" in before):
            continue
        largest = max(value for run, _ in old for value in run.measured.get(way, []))
        rounded = kind_of_path(name_of(way)) != "rate" and largest <= ROUNDED and instead <= {"0", "0.0"}
        found.new.append(_gap(way, after) + (", which may be rounded" if rounded else ""))
        found.failed |= not rounded
        found.values |= not rounded and instead != {"missing"}
    for way in dict.fromkeys(way for run, _ in now for way in run.measured):
        there = [run for run, _ in old if way in run.measured or way in run.others]
        if any(way in run.others for run in there):
            found.base.append(_gap(way, [said(run.others[way]) if way in run.others else "" for run in there]))
    return found


def _command(result: Mapping[str, Any]) -> str | None:
    return command if isinstance(command := result.get("command"), str) else None


def _ends(
    way: Way, runs: Sequence[tuple[Contents, str | None]], commands: set[str | None]
) -> tuple[list[str], list[str]]:
    """Return what stands at the end of a way, empty for a usable value, and of other runs what part is absent."""
    texts, parts = [], []
    for run, command in runs:
        lack = run.lack(way, whole=command is None or None in commands or command in commands)
        if lack and lack.part:
            parts.append(lack.part)
        else:
            texts.append(lack.instead if lack else "")
    return texts, parts


def _gap(way: Way, texts: Sequence[str]) -> str:
    instead = [text for text in texts if text]
    share = f" in {len(instead)} of {len(texts)} runs" if len(texts) > 1 else ""
    return f"{name_of(way)}: {' and '.join(dict.fromkeys(instead))}{share}"
