"""Compare results of a benchmark with a baseline: the ratio of each time, rate and size of memory, with a verdict.

    python -m benchmarks.compare BASE NEW [--margin 0.03] [--much 1.25] [--other-card]

BASE and NEW are each a file, or a folder with the files of several runs of one benchmark; a name alone is looked for
in benchmarks/results, too. A file may hold several results under `runs`; what stands beside them is not compared. Only
what has the same name and sizes on both sides is (`benchmarks.quantities`); floors and facts are left out.

Each run gives a quantity one value; the ratio is NEW's median over BASE's. From three runs on each side it has a 95 %
interval (Welch's t on logarithms) and is `worse` or `better` if interval and margin say so, `same` if the interval lies
within the margin, else `unclear`. With fewer it has no interval and mostly `no verdict`: only what takes more than 1.25
times (--much) the time or memory is `much worse`, and the other way round `much better`, unless the difference is below
0.1 s, 0.1 ms or 0.1 GiB, where figures are rounded.

Named after the table is what BASE measured and a run of NEW lacks, or has as no finite number above zero, such as NaN,
null or 0; only a time or size of at most 0.1 may be rounded to 0. Rows, sections and runs with sizes or a way of their
own may be absent, and any section if the command is another. Of several rows, those without name or size are left out.

Exit code 1 if something is worse, much worse or lacking; 2 if the two cannot be compared, such as results of two kinds
of GPU.
"""

import argparse
import itertools
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gaps import ROUNDED, SHOWN, Gaps, gaps
from benchmarks.quantities import kind_of_path, label, quantities
from bridge_common.errors import UserError

BENCHMARKS = Path(__file__).resolve().parent
RESULTS = BENCHMARKS / "results"
MACHINE = ("environment", "machine")  # where benchmarks write facts about the machine
SAME_CARD = ("gpu", "device", "cpus", "gpus")  # facts that a ratio presupposes
SAME_VERSIONS = ("torch", "transformers", "python", "cuda")
ENOUGH_RUNS = 3
MUCH = 1.25
DEEPEST = 100  # levels of a file: beyond those of any result, below those at which Python ends a recursion


@dataclass(frozen=True)
class Comparison:
    """One quantity of two results.

    Attributes:
        name: where it stands in the file, such as `train first/step_ms`.
        base, new: the medians over runs.
        ratio: new over base.
        low, high: the ratio's 95 % interval; None with fewer than three runs on a side.
        verdict: worse, better, same or unclear; without an interval much worse, much better or no verdict.
    """

    name: str
    base: float
    new: float
    ratio: float
    low: float | None
    high: float | None
    verdict: str


def compare(
    base: Sequence[float], new: Sequence[float], *, name: str = "", margin: float = 0.03, much: float = MUCH
) -> Comparison:
    """Compare two sets of values of one quantity.

    Args:
        base: positive values, one of each run.
        new: likewise, of the runs that are judged.
        name: the quantity; a rate, such as one that ends in `_per_s`, is better when higher.
        margin: a ratio within 1 ± margin counts as the same.
        much: without an interval, a ratio beyond it is a verdict of its own.

    Returns:
        The ratio with Welch's interval on logarithms, which presupposes that runs are independent.
    """
    old, now = median(base), median(new)
    low, high = _interval(base, new)  # logarithms
    worse = -1 if kind_of_path(name) == "rate" else 1  # the sign of a logarithm that is worse
    shift, bound = worse * (math.log(now) - math.log(old)), math.log1p(margin)
    if low is None or high is None:
        rounded = kind_of_path(name) != "rate" and abs(now - old) < ROUNDED
        verdict = "no verdict"
        if abs(shift) > math.log(much) and not rounded:
            verdict = "much worse" if shift > 0 else "much better"
    elif min(worse * low, worse * high) > 0 and shift > bound:
        verdict = "worse"
    elif max(worse * low, worse * high) < 0 and shift < -bound:
        verdict = "better"
    else:
        verdict = "same" if max(abs(low), abs(high)) <= bound else "unclear"
    return Comparison(name, old, now, now / old, _ratio(low), _ratio(high), verdict)


def _ratio(logarithm: float | None) -> float | None:
    if logarithm is None:
        return None
    return math.exp(logarithm) if logarithm < math.log(sys.float_info.max) else math.inf


def _interval(base: Sequence[float], new: Sequence[float]) -> tuple[float | None, float | None]:
    if min(len(base), len(new)) < ENOUGH_RUNS:
        return None, None
    from scipy import stats

    logs = [[math.log(value) for value in values] for values in (new, base)]
    if len({*logs[0]}) == len({*logs[1]}) == 1:  # equal runs, whose t is not defined
        exact = logs[0][0] - logs[1][0]
        return exact, exact
    interval = stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.95)
    return float(interval.low), float(interval.high)


def find(name: Path) -> Path:
    """Return where a result is: the path itself if it is there, else a stored result of that name.

    Raises:
        UserError: if the path cannot be looked for, such as one that is too long.
    """
    stored = (BENCHMARKS.parent / name, BENCHMARKS / name, RESULTS / name, RESULTS / f"{name}.json")
    try:
        return next((path for path in (name, *stored) if path.exists()), name)
    except OSError as error:
        raise UserError(f"{error}: name a file, a folder of runs, or a stored result") from None


def read(path: Path) -> list[dict[str, Any]]:
    """Read a result, or all results of a folder.

    Raises:
        UserError: if there is none, or a file is no result; the message names it.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: no results there; a benchmark writes NAME.json into $OUT or benchmarks/results")
    results = []
    for file in files:
        result = _parsed(file)
        runs = result.get("runs") if isinstance(result, dict) else None
        runs = runs if isinstance(runs, list) else [result]
        if not runs or not all(isinstance(run, dict) for run in runs):
            raise UserError(
                f"{file} is no result of a benchmark: name a file of benchmarks/results or a folder of them"
            )
        results += runs
    return results


def _parsed(file: Path) -> Any:
    try:
        result = json.loads(file.read_text())
        _check_depth(result)
    except RecursionError:
        raise UserError(
            f"{file}: more than {DEEPEST} levels deep, unlike any result: name one of a benchmark"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {error}: name a result of a benchmark") from None
    return result


def _check_depth(result: Any) -> None:
    level = [result]
    for _ in range(DEEPEST):
        groups = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [inner for group in groups for inner in group]
    if level:
        raise RecursionError


def machines(results: Any) -> Iterator[dict[str, Any]]:
    """Yield the facts about a machine at any depth of results, with the names that `harness.environment` gives them."""
    if isinstance(results, list):
        for each in results:
            yield from machines(each)
    elif isinstance(results, dict):
        for key, value in results.items():
            if key not in MACHINE or not isinstance(value, dict):
                yield from machines(value)
                continue
            facts = value
            if "cores" in facts:
                facts = {"cpus": _whole(facts["cores"])} | facts
            device = str(facts.get("device", "cpu"))
            if device not in ("cpu", "cuda"):  # its name
                gpu = device.startswith("NVIDIA")
                facts = facts | ({"device": "cuda", "gpu": device} if gpu else {"device": "cpu"})
            yield {name: fact for name, fact in facts.items() if name != "gpus" or isinstance(fact, int)}


def _whole(cores: Any) -> Any:
    try:
        return int(cores)
    except (TypeError, ValueError, OverflowError):  # such as `16 cores`, which differs from 16
        return cores


def differences(base: Any, new: Any, facts: Sequence[str]) -> list[str]:
    """Return the facts about machine or versions of which there is more than one, each as `gpu: A100, now H100`."""
    found = []
    for fact in facts:
        old, now = ([m[fact] for m in machines(side) if m.get(fact) is not None] for side in (base, new))
        if len({*map(str, old + now)}) > 1 and old and now:
            found.append(f"{fact}: {_listed(old)}, now {_listed(now)}")
    return found


def _listed(values: Sequence[Any]) -> str:
    return " and ".join(dict.fromkeys(map(str, values)))


def _commands(results: Sequence[dict[str, Any]]) -> list[str]:
    return [result["command"] for result in results if isinstance(result.get("command"), str)]


def _benchmarks(results: Sequence[dict[str, Any]]) -> list[str]:
    """Return the benchmarks that the results' commands name, each once."""
    named = (re.search(r"-m benchmarks\.(\w+)", command) for command in _commands(results))
    return list(dict.fromkeys(found[1] for found in named if found))


def compare_results(
    base: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]], margin: float = 0.03, much: float = MUCH
) -> list[Comparison]:
    """Compare what two sets of runs both measured, in the order of the first file."""
    sides: list[dict[str, list[float]]] = []
    for results in (base, new):
        values: dict[str, list[float]] = {}
        for result in results:
            for name, value in quantities(result).items():
                values.setdefault(name, []).append(value)
        sides.append(values)
    old, now = sides
    return [compare(old[name], now[name], name=name, margin=margin, much=much) for name in old if name in now]


def table(rows: Sequence[Comparison], much: float = MUCH) -> str:
    """Return the comparison as lines of text."""
    shared = _shared([row.name.split("/")[:-1] for row in rows])
    start = len("/".join([*shared, ""])) if shared else 0
    width = max(len("quantity"), *(len(row.name) - start for row in rows))
    lines = [f"in {'/'.join(shared)}:"] if shared else []
    lines += [f"{'quantity':<{width}}  {'base':>10}  {'new':>10}  {'ratio':>6}  {'95 % interval':<15}  verdict"]
    for row in rows:
        interval = "" if row.low is None else f"[{row.low:.3f}, {row.high:.3f}]"
        numbers = f"{row.base:>10.4g}  {row.new:>10.4g}  {row.ratio:>6.3f}"
        lines.append(f"{row.name[start:]:<{width}}  {numbers}  {interval:<15}  {row.verdict}")
    counts = Counter(row.verdict for row in rows)
    lines.append(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    if any(row.low is None for row in rows):
        lines.append(
            f"fewer than {ENOUGH_RUNS} runs on a side: no interval, and a verdict only beyond a ratio of {much:g}; "
            f"give folders with {ENOUGH_RUNS} runs each"
        )
    return "\n".join(lines)


def _shared(paths: Sequence[Sequence[str]]) -> list[str]:
    """Return the parts with which all paths begin."""
    levels = zip(*paths, strict=False)
    return [level[0] for level in itertools.takewhile(lambda level: len({*level}) == 1, levels)]


def _nothing_in_common(base: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]], lacking: Gaps) -> str:
    of = [_listed([label(run) or "no size or setting" for run in side]) for side in (base, new)]
    reasons = []
    if of[0] != of[1]:
        reasons.append(f"one is of {of[0]}, the other of {of[1]}")
    if lacking.base:
        reasons.append(f"BASE has no finite number above zero for {lacking.base[0]}")
    if lacking.unlabelled:
        reasons.append(f"rows without name or size are left out ({', '.join(lacking.unlabelled[:SHOWN])})")
    return "have no time, rate or size of memory in common" + (f": {', and '.join(reasons)}" if reasons else "")


def main() -> int:
    """Print the comparison of two results and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="a file, a folder of runs, or the name of a stored result")
    parser.add_argument("new", type=Path, help="likewise, of the runs that are judged")
    parser.add_argument("--margin", type=float, default=0.03, help="ratios within 1 ± MARGIN count as the same")
    parser.add_argument("--much", type=float, default=MUCH, help="the ratio that is a verdict without an interval")
    parser.add_argument("--other-card", action="store_true", help="compare results of two kinds of machine")
    options = parser.parse_args()
    if not 0 <= options.margin < 1 or not options.much > 1:
        parser.error("--margin is a share from 0 to 1, --much a ratio above 1")
    try:
        base, new = read(find(options.base)), read(find(options.new))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    other = differences(base, new, SAME_CARD)
    if other and not options.other_card:
        print(
            f"not the same machine ({'; '.join(other)}): run the baseline there, or add --other-card", file=sys.stderr
        )
        return 2
    if len(several := _benchmarks([*base, *new])) > 1:
        print(f"results of several benchmarks ({', '.join(several)}): compare one with itself", file=sys.stderr)
        return 2
    rows, lacking = compare_results(base, new, options.margin, options.much), gaps(base, new)
    if not rows and not lacking.values:
        print(f"{options.base} and {options.new} {_nothing_in_common(base, new, lacking)}", file=sys.stderr)
        return 2
    for line in [*other, *differences(base, new, SAME_VERSIONS)]:
        print(line)
    commands = [_listed(_commands(side)) for side in (base, new)]
    if all(commands) and commands[0] != commands[1]:
        print(f"command: {commands[0]}\n    now: {commands[1]}")
    print("\n".join([*([table(rows, options.much)] if rows else []), *lacking.lines()]))
    return int(lacking.failed or any(row.verdict in ("worse", "much worse") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
