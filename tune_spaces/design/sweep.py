"""Sweeps: variants over the values of any settings, as a full grid, at random, or proposed by a search as it runs.

The points of a grid and those drawn at random are part of the frozen plan. Those of a search are recorded as they are
proposed, so that any sweep resumes and reuses finished trials like every other campaign.
"""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from bridge_common.errors import UserError
from ray_bridge import JobSpec, RunSpec
from tune_spaces.design import toggles
from tune_spaces.design.phases import Phase
from tune_spaces.design.plan import MOST_TRIALS
from tune_spaces.design.search import OPTUNA, Axis, make_search
from tune_spaces.design.variants import Variant, full

SWEEP = "sweep"
GRID, RANDOM = "grid", "random"
SEARCHES = (GRID, RANDOM, OPTUNA)
DRAWS_A_POINT = 50  # tries for each point before a random sweep has to be smaller than asked
TRIALS = 32


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
        search: `grid`, every combination; `random`, points drawn with a fixed seed; `optuna`, points that Optuna's
            estimator (TPE; Bergstra et al. 2011) proposes from the validation accuracies so far.
        trials: number of points; of a grid, the most that it may have.

    Raises:
        UserError: without axes, for a range in a grid, a setting of the run, a value that is given twice, or more
            points than asked for or planned in one campaign.
    """
    if of_run := [axis.field for axis in axes if axis.field in RunSpec.model_fields]:
        raise UserError(f"--over: {of_run[0]} is a setting of the run, for all trials: --set {of_run[0]}=VALUE")
    if any(axis.field == "seed" for axis in axes):
        raise UserError("--over: seed is no setting that is compared: give the seeds of every point by --seeds 0,1,2")
    switched = [toggles.find(name) for name in among]
    every = [*axes, *(Axis(field=toggle.field, values=(toggle.on, toggle.off)) for toggle in switched)]
    if not every:
        raise UserError("a sweep needs a setting to vary: --over soft_tokens=64,128, or --toggle kl")
    if repeated := {axis.field for axis in every if sum(other.field == axis.field for other in every) > 1}:
        raise UserError(f"--over: {', '.join(sorted(repeated))} is varied twice")
    if search not in SEARCHES:
        raise UserError(f"--search {search}: use {', '.join(SEARCHES[:-1])} or {SEARCHES[-1]}")
    goal = f"{search} search over {', '.join(axis.field for axis in every)}"
    count = TRIALS if trials is None else trials
    if search != GRID and count > MOST_TRIALS:
        raise UserError(f"--trials {count}: give at most {MOST_TRIALS}, which one campaign plans")
    if search == OPTUNA:
        phase = Phase(name=SWEEP, goal=goal, first=(), search=make_search(every, count))
        checked = end_variants(phase)
    else:
        points = _grid(every, trials) if search == GRID else _drawn(every, count)
        checked = [point_variant(number, len(points), point) for number, point in enumerate(points)]
        phase = Phase(name=SWEEP, goal=goal, first=tuple(checked))
    specs = [variant.spec(base, 0) for variant in checked]  # an impossible value is refused before anything is planned
    for axis in every:
        _refuse_same(
            axis,
            [
                (variant.changes[axis.field], getattr(spec, axis.field))
                for variant, spec in zip(checked, specs, strict=True)
            ],
        )
    return phase


def _refuse_same(axis: Axis, values: Iterable[tuple[Any, Any]]) -> None:
    """Refuse an axis of which two values, as given and as the spec has them, are one, such as 1e-3 and 0.001."""
    given: dict[str, Any] = {}
    for text, value in values:
        if axis.values and given.setdefault(repr(value), text) != text:
            raise UserError(
                f"--over {axis.field}={axis.text}: {given[repr(value)]} and {text} are one value; name it once"
            )


def point_variant(number: int, of: int, point: Mapping[str, Any]) -> Variant:
    """Return the variant of a sweep's point.

    Args:
        number: of the point, from 0.
        of: number of all points.
        point: values by field.
    """
    return Variant(
        name=f"s{number:0{len(str(of))}d}",
        changes={**full().changes, **point},
        purpose=", ".join(f"{field}={value}" for field, value in point.items()),
    )


def end_variants(phase: Phase) -> list[Variant]:
    """Return variants at the ends of the settings that a phase's search varies; none for a phase without a search."""
    points = phase.search.ends() if phase.search else []
    return [
        Variant(
            name=", ".join(f"{field}={value}" for field, value in point.items()), changes={**full().changes, **point}
        )
        for point in points
    ]


def _grid(axes: Sequence[Axis], most: int | None) -> list[dict[str, Any]]:
    ranges = [axis.field for axis in axes if not axis.values]
    if ranges:
        raise UserError(f"--over {ranges[0]}: a range has no grid; list its values, or use --search random")
    size, limit = math.prod(len(axis.values) for axis in axes), min(MOST_TRIALS, most or MOST_TRIALS)
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
