"""Compare results of a benchmark with a baseline: the ratio of each time, rate and peak of memory, with a verdict.

    python -m benchmarks.compare BASE NEW [--margin 0.03] [--other-card]

BASE and NEW are each a file of benchmarks/results, or a folder with the files of several runs of one benchmark. What
ends in `_ms`, `_s`, `seconds` or `_gib` is better when lower, in `_per_s` when higher; floors and facts are left out.
The ratio is NEW's median over BASE's. With two or more values on each side it has a 95 % interval (Welch's t on
logarithms) and a verdict; a single run has no interval, and its verdict says so. Exit code 1 if something is slower, 2
if the two cannot be compared, such as results of two kinds of GPU.
"""

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

LOWER = ("_ms", "_s", "seconds", "_gib")
HIGHER = "_per_s"
LEFT_OUT = ("environment", "ceilings", "machine", "metrics", "floor", "memory_gib", "limit")
SAME_CARD = ("gpu", "device", "cpus", "gpus")  # facts of an environment that a ratio presupposes
SAME_VERSIONS = ("torch", "transformers", "python", "cuda")


@dataclass(frozen=True)
class Comparison:
    """One quantity of two results.

    Attributes:
        name: where it stands in the file, such as `train first/step_ms`.
        base, new: the medians.
        ratio: new over base.
        low, high: the ratio's 95 % interval; None with a single value on a side.
        verdict: better, worse, same, unclear or one run.
    """

    name: str
    base: float
    new: float
    ratio: float
    low: float | None
    high: float | None
    verdict: str


def quantities(result: Any, path: str = "") -> Iterator[tuple[str, list[float]]]:
    """Yield every time, rate and peak of memory of a result by its place in the file, with its value or values."""
    if isinstance(result, dict):
        for key, value in result.items():
            if not any(part in key for part in LEFT_OUT):
                yield from quantities(value, f"{path}/{key}" if path else key)
    elif isinstance(result, list) and result and all(isinstance(value, dict) for value in result):
        for i, value in enumerate(result):
            yield from quantities(value, f"{path}/{value.get('name', value.get('variant', i))}")
    elif path.endswith(LOWER) or any(part.endswith(LOWER) for part in path.split("/")[:-1]):
        values = result if isinstance(result, list) else [result]
        if values and all(isinstance(v, int | float) and not isinstance(v, bool) and v > 0 for v in values):
            yield path, [float(v) for v in values]


def compare(base: Sequence[float], new: Sequence[float], *, name: str = "", margin: float = 0.03) -> Comparison:
    """Compare two sets of values of one quantity.

    Args:
        base: positive values of one or more runs.
        new: likewise, of the runs that are judged.
        name: the quantity; one that ends in `_per_s` is better when higher.
        margin: a ratio within 1 ± margin counts as the same.

    Returns:
        The ratio with Welch's interval on logarithms, which presupposes that runs are independent.
    """
    ratio = median(new) / median(base)
    low, high = _interval(base, new)
    worse = -1 if name.endswith(HIGHER) else 1  # the sign of a logarithm that is worse
    bound = math.log1p(margin)
    if low is None or high is None:
        verdict = "one run"
    elif min(worse * math.log(low), worse * math.log(high)) > 0 and worse * math.log(ratio) > bound:
        verdict = "worse"
    elif max(worse * math.log(low), worse * math.log(high)) < 0 and worse * math.log(ratio) < -bound:
        verdict = "better"
    else:
        verdict = "same" if max(abs(math.log(low)), abs(math.log(high))) <= bound else "unclear"
    return Comparison(name, median(base), median(new), ratio, low, high, verdict)


def _interval(base: Sequence[float], new: Sequence[float]) -> tuple[float | None, float | None]:
    if min(len(base), len(new)) < 2:
        return None, None
    from scipy import stats

    logs = [[math.log(value) for value in values] for values in (new, base)]
    if len({*logs[0]}) == len({*logs[1]}) == 1:  # equal runs, whose t is not defined
        exact = math.exp(logs[0][0] - logs[1][0])
        return exact, exact
    interval = stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.95)
    return math.exp(interval.low), math.exp(interval.high)


def read(path: Path) -> list[dict[str, Any]]:
    """Read a result, or all results of a folder.

    Raises:
        ValueError: if there is none, or a file is no result; the message names it.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path}: no results there; a benchmark writes NAME.json into $OUT or benchmarks/results")
    results = []
    for file in files:
        try:
            result = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"{file}: {error}") from None
        if not isinstance(result, dict):
            raise ValueError(
                f"{file} is no result of a benchmark: name a file of benchmarks/results or a folder of them"
            )
        results.append(result)
    return results


def differences(base: dict[str, Any], new: dict[str, Any], facts: Sequence[str]) -> list[str]:
    """Return the facts about machine or versions that differ, each as `gpu: A100, now H100`."""
    old, now = base.get("environment", {}), new.get("environment", {})
    return [
        f"{fact}: {old[fact]}, now {now[fact]}"
        for fact in facts
        if fact in old and fact in now and old[fact] != now[fact]
    ]


def compare_results(
    base: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]], margin: float = 0.03
) -> list[Comparison]:
    """Compare what two sets of runs both measured, in the order of the first file."""
    sides = []
    for results in (base, new):
        values: dict[str, list[float]] = {}
        for result in results:
            for name, measured in quantities(result):
                values.setdefault(name, []).extend(measured)
        sides.append(values)
    old, now = sides
    return [compare(old[name], now[name], name=name, margin=margin) for name in old if name in now]


def table(rows: Sequence[Comparison]) -> str:
    """Return the comparison as lines of text."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'quantity':<{width}}  {'base':>10}  {'new':>10}  {'ratio':>6}  {'95 % interval':<15}  verdict"]
    for row in rows:
        interval = "" if row.low is None else f"[{row.low:.3f}, {row.high:.3f}]"
        numbers = f"{row.base:>10.4g}  {row.new:>10.4g}  {row.ratio:>6.3f}"
        lines.append(f"{row.name:<{width}}  {numbers}  {interval:<15}  {row.verdict}")
    counts = Counter(row.verdict for row in rows)
    return "\n".join([*lines, ", ".join(f"{count} {verdict}" for verdict, count in counts.items())])


def main() -> int:
    """Print the comparison of two results and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--margin", type=float, default=0.03, help="ratios within 1 ± MARGIN count as the same")
    parser.add_argument("--other-card", action="store_true", help="compare results of two kinds of machine")
    options = parser.parse_args()
    try:
        base, new = read(options.base), read(options.new)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    other = differences(base[0], new[0], SAME_CARD)
    if other and not options.other_card:
        print(
            f"not the same machine ({'; '.join(other)}): run the baseline there, or add --other-card", file=sys.stderr
        )
        return 2
    for line in [*other, *differences(base[0], new[0], SAME_VERSIONS)]:
        print(line)
    rows = compare_results(base, new, options.margin)
    if not rows:
        print(f"{options.base} and {options.new} have no time, rate or peak of memory in common", file=sys.stderr)
        return 2
    print(table(rows))
    return int(any(row.verdict == "worse" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
