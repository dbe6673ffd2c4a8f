"""Sweeps: variants over the values of any settings, as a full grid or as points drawn at random, planned in advance.

Since the points are part of the frozen plan, a sweep resumes and reuses finished trials like any other campaign.
"""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from bridge_common.errors import UserError
from ray_bridge import JobSpec
from tune_spaces.design import toggles
from tune_spaces.design.phases import Phase
from tune_spaces.design.variants import Variant, full

SWEEP = "sweep"
GRID, RANDOM = "grid", "random"
SEARCHES = (GRID, RANDOM)
DRAWS_A_POINT = 50  # tries for each point before a random sweep has to be smaller than asked
MOST_GRID = 10_000
_SCALES = ("log", "lin", "int")


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One setting that a sweep varies.

    Attributes:
        field: of the spec.
        values: its values, or empty if they are drawn between `low` and `high`.
        scale: how they are drawn: log (uniform in the logarithm), lin (uniform), int (whole numbers).
        low: smallest value that is drawn.
        high: largest value that is drawn.
    """

    field: str
    values: tuple[Any, ...] = ()
    scale: str = "lin"
    low: float = 0.0
    high: float = 0.0

    def draw(self, source: random.Random) -> Any:
        """Return one value; numbers have four digits, so that names and records stay short."""
        if self.values:
            return source.choice(self.values)
        if self.scale == "int":
            return source.randint(int(self.low), int(self.high))
        if self.scale == "log":
            return float(f"{math.exp(source.uniform(math.log(self.low), math.log(self.high))):.4g}")
        return float(f"{source.uniform(self.low, self.high):.4g}")


def parse_axis(text: str) -> Axis:
    """Return the axis of `FIELD=A,B,C`, or of `FIELD=log:LOW:HIGH`, `lin:LOW:HIGH` or `int:LOW:HIGH`.

    Raises:
        UserError: if it is anything else.
    """
    field, sign, values = text.partition("=")
    scale, *ends = values.split(":")
    if sign and field and scale in _SCALES:
        try:
            low, high = map(float, ends)
        except ValueError:
            low, high = 1.0, 0.0
        if low < high and (low > 0 or scale != "log"):
            return Axis(field=field, scale=scale, low=low, high=high)
    elif sign and field and all(value.strip() for value in values.split(",")):
        return Axis(field=field, values=tuple(dict.fromkeys(value.strip() for value in values.split(","))))
    raise UserError(
        f"--over {text}: give FIELD=A,B,C, or FIELD=log:LOW:HIGH, lin:LOW:HIGH, int:LOW:HIGH with LOW < HIGH"
    )


def sweep(
    base: JobSpec,
    axes: Sequence[Axis],
    *,
    among: Iterable[str] = (),
    search: str = GRID,
    trials: int | None = None,
) -> Phase:
    """Return a phase that varies settings of `full`.

    Args:
        base: the spec that the variants change.
        axes: the settings and their values.
        among: keys or fields of toggles that are varied, too; the others are on.
        search: `grid`, every combination; or `random`, points drawn with a fixed seed.
        trials: number of points that are drawn; of a grid, the most that it may have.

    Raises:
        UserError: without axes, for a range in a grid, or for more points than asked for.
    """
    switched = [toggles.find(name) for name in among]
    every = [*axes, *(Axis(field=toggle.field, values=(toggle.on, toggle.off)) for toggle in switched)]
    if not every:
        raise UserError("a sweep needs a setting to vary: --over soft_tokens=64,128, or --toggle kl")
    if repeated := {axis.field for axis in every if sum(other.field == axis.field for other in every) > 1}:
        raise UserError(f"--over: {', '.join(sorted(repeated))} is varied twice")
    if search not in SEARCHES:
        raise UserError(f"--search {search}: use {' or '.join(SEARCHES)}")
    points = _grid(every, trials) if search == GRID else _drawn(every, 32 if trials is None else trials)
    variants = tuple(
        Variant(
            name=f"s{number:0{len(str(len(points)))}d}",
            changes={**full().changes, **point},
            purpose=", ".join(f"{field}={value}" for field, value in point.items()),
        )
        for number, point in enumerate(points)
    )
    for variant in variants:
        variant.spec(base, 0)  # an impossible value is refused before anything is planned
    varied = ", ".join(axis.field for axis in every)
    return Phase(name=SWEEP, goal=f"{search} search over {varied}", first=variants)


def _grid(axes: Sequence[Axis], most: int | None) -> list[dict[str, Any]]:
    ranges = [axis.field for axis in axes if not axis.values]
    if ranges:
        raise UserError(f"--over {ranges[0]}: a range has no grid; list its values, or use --search random")
    size, limit = math.prod(len(axis.values) for axis in axes), MOST_GRID if most is None else most
    if size > limit:
        raise UserError(f"the grid has {size} points, more than {limit}: name fewer values, or use --search random")
    return [
        dict(zip([axis.field for axis in axes], values, strict=True))
        for values in product(*(axis.values for axis in axes))
    ]


def _drawn(axes: Sequence[Axis], count: int) -> list[dict[str, Any]]:
    if count < 1:
        raise UserError(f"--trials {count}: draw at least one point")
    source = random.Random(0)
    points: dict[str, dict[str, Any]] = {}
    for _ in range(count * DRAWS_A_POINT):
        point = {axis.field: axis.draw(source) for axis in axes}
        points.setdefault(repr(point), point)
        if len(points) == count:
            break
    return list(points.values())
