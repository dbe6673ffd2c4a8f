"""Effects of toggles on accuracy: every effect that the runs of a design determine, and *not run* for the others.

A cell is the set of toggles that are on, with the answers of its runs, (seeds, items). Every effect is a weighted sum
of cells; if a cell is missing, the effect is reported as not run. Nothing is imputed or modelled.

If a toggle has one position in all runs, effects of the others hold at that position: `full` is then the cell with all
varied toggles on, `base` the one with all varied toggles off.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations
from math import comb
from typing import Any, Literal, get_args

from numpy.typing import NDArray

from tune_spaces.analysis.clustering import Clusters
from tune_spaces.analysis.estimates import Cells
from tune_spaces.analysis.noise_floor import NoiseFloor, is_shown, noise_floor
from tune_spaces.analysis.paired_comparison import MCNEMAR, STUDENT
from tune_spaces.analysis.paired_tests import Correction, adjust, discordant, mcnemar_exact, paired_interval

Kind = Literal["leave_one_out", "add_one_in", "step", "joint", "interaction_at_full", "interaction_at_base", "shapley"]
Cell = frozenset[str]
EACH: tuple[Kind, ...] = ("leave_one_out", "add_one_in", "shapley")
CONFIRMATORY: tuple[Kind, ...] = ("leave_one_out", "add_one_in", "step", "joint")


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One effect on accuracy. If it was not run, every number is None and `reason` says what is missing.

    Attributes:
        kind: leave_one_out, full minus full without the toggle; add_one_in, base with the toggle minus base; step and
            joint, one or several toggles between two neighbouring cells of an incomplete design; interaction, the
            difference that one toggle makes to the effect of another, among the cells next to full or to base;
            shapley, the mean of the toggle's effect over all orders of switching on (Shapley 1953).
        toggles: the toggles whose effect it is, in the registry's order.
        given: toggles that are on in both cells, for effects of two cells.
        estimate: difference of accuracies, with its 95 % interval from `low` to `high`.
        n10, n01: discordant items, for effects of two cells.
        p, p_adjusted: p-value of no effect, and after the `correction` within its family.
        test: the test from which p-value and interval come.
        with_seeds: whether they cover other seeds; False if they compare trained runs as they are.
        reason: why the effect was not run.
    """

    kind: Kind
    toggles: tuple[str, ...]
    given: tuple[str, ...] = ()
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n10: int | None = None
    n01: int | None = None
    p: float | None = None
    p_adjusted: float | None = None
    correction: Correction = "holm"
    test: str = ""
    with_seeds: bool = False
    reason: str = ""

    @property
    def ran(self) -> bool:
        """Whether the design determines this effect."""
        return self.estimate is not None

    def shown(self, floor: NoiseFloor | None) -> bool:
        """Return whether the effect passes its corrected test and exceeds the difference between replicates."""
        return is_shown(self.estimate, self.p_adjusted, None if floor is None else floor.typical)


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """All effects of a design.

    Attributes:
        effects: all effects in the order of their kinds, those not run included.
        fixed: toggles that have one position in all runs, with that position.
        full, base: the cells from which effects are measured.
        noise_floor: how far replicates differ, or None if no configuration ran twice.
    """

    effects: list[Effect]
    fixed: dict[str, bool]
    full: Cell
    base: Cell
    noise_floor: NoiseFloor | None


Weights = dict[Cell, float]


def _subsets(toggles: Sequence[str]) -> Iterator[Cell]:
    return map(frozenset, chain.from_iterable(combinations(toggles, size) for size in range(len(toggles) + 1)))


def _shapley(toggle: str, varied: Sequence[str], base: Cell) -> Weights:
    others = [other for other in varied if other != toggle]
    weights: Weights = {}
    for subset in _subsets(others):
        share = 1 / (len(varied) * comb(len(others), len(subset)))
        weights[base | subset | {toggle}] = share
        weights[base | subset] = -share
    return weights


def _neighbours(cells: Collection[Cell]) -> Iterator[tuple[Cell, Cell]]:
    """Yield nested cells with no cell of the design between them, as (larger, smaller)."""
    for large in cells:
        for small in cells:
            if small < large and not any(small < middle < large for middle in cells):
                yield large, small


def _candidates(
    cells: Collection[Cell], varied: Sequence[str], full: Cell, base: Cell
) -> Iterator[tuple[Kind, tuple[str, ...], Weights]]:
    """Yield every possible effect of the varied toggles, with the weights of the cells it needs."""
    for toggle in varied:
        yield "leave_one_out", (toggle,), {full: 1.0, full - {toggle}: -1.0}
    for toggle in varied:
        yield "add_one_in", (toggle,), {base | {toggle}: 1.0, base: -1.0}
    if len(cells) < 2 ** len(varied):
        for large, small in sorted(_neighbours(cells), key=lambda pair: (len(pair[1]), sorted(pair[0] - pair[1]))):
            toggles = tuple(toggle for toggle in varied if toggle in large - small)
            if len(toggles) > 1 or (large != full and small != base):
                yield "joint" if len(toggles) > 1 else "step", toggles, {large: 1.0, small: -1.0}
    for i, j in combinations(varied, 2):
        yield "interaction_at_full", (i, j), {full: 1.0, full - {i}: -1.0, full - {j}: -1.0, full - {i, j}: 1.0}
    for i, j in combinations(varied, 2):
        yield "interaction_at_base", (i, j), {base | {i, j}: 1.0, base | {i}: -1.0, base | {j}: -1.0, base: 1.0}
    for toggle in varied:
        yield "shapley", (toggle,), _shapley(toggle, varied, base)


def attribute(
    cells: Mapping[Cell, NDArray[Any]],
    toggles: Sequence[str],
    *,
    family: Collection[Kind] = CONFIRMATORY,
    clusters: Clusters | None = None,
) -> Attribution:
    """Estimate the effects of toggles from the cells that ran.

    Two single runs on independent items are compared with the exact McNemar test and the interval that belongs to it;
    all other effects have interval and p-value from Student's t over items, clusters and seeds.

    Args:
        cells: correct answers by the set of toggles that are on, (seeds, items), on the same items in the same order.
        toggles: names of all toggles, in the order of reports.
        family: kinds of effect that were declared beforehand and are corrected together by Holm; the others are a
            sweep and are corrected by Benjamini-Hochberg.
        clusters: number of each item's cluster, (items,); None if items are independent.
    """
    if not cells:
        return Attribution(effects=[], fixed={}, full=frozenset(), base=frozenset(), noise_floor=None)
    varied = [toggle for toggle in toggles if len({toggle in cell for cell in cells}) > 1]
    fixed = {toggle: all(toggle in cell for cell in cells) for toggle in toggles if toggle not in varied}
    base: Cell = frozenset(toggle for toggle, on in fixed.items() if on)
    full = base | set(varied)
    in_order = _in_order(toggles)
    names = {cell: " + ".join(in_order(cell)) for cell in cells}
    joint = Cells.of({names[cell]: matrix for cell, matrix in cells.items()}, clusters)
    effects, keys = [], []
    for kind, own, weights in _candidates(cells, varied, full, base):
        missing = [cell for cell in weights if cell not in cells]
        effect = Effect(kind=kind, toggles=own, correction="holm" if kind in family else "fdr_bh")
        if missing:
            effects.append(replace(effect, reason=_absent(missing, in_order)))
        else:
            effects.append(_estimate(effect, cells, weights, joint, names, in_order))
        keys.append(frozenset(weights.items()))
    effects = _corrected(effects, keys)
    unvaried = [
        Effect(kind=kind, toggles=(toggle,), reason=f"{toggle} is {'on' if on else 'off'} in every run")
        for kind in EACH
        for toggle, on in fixed.items()
    ]
    replicates = [[float(run.mean()) for run in matrix] for matrix in cells.values()]
    kinds = get_args(Kind)
    effects = sorted(
        effects + unvaried, key=lambda e: (kinds.index(e.kind), e.kind in EACH and toggles.index(e.toggles[0]))
    )
    return Attribution(effects=effects, fixed=fixed, full=full, base=base, noise_floor=noise_floor(replicates))


def _in_order(toggles: Sequence[str]) -> Callable[[Collection[str]], tuple[str, ...]]:
    return lambda chosen: tuple(toggle for toggle in toggles if toggle in chosen)


def _absent(missing: Sequence[Cell], in_order: Callable[[Collection[str]], tuple[str, ...]]) -> str:
    if len(missing) > 3:
        return f"{len(missing)} of the configurations it needs were not run"
    return "no run with " + ", nor with ".join(" + ".join(in_order(cell)) or "all toggles off" for cell in missing)


def _estimate(
    effect: Effect,
    cells: Mapping[Cell, NDArray[Any]],
    weights: Weights,
    joint: Cells,
    names: Mapping[Cell, str],
    in_order: Callable[[Collection[str]], tuple[str, ...]],
) -> Effect:
    if len(weights) == 2:
        large, small = sorted(weights, key=lambda cell: -weights[cell])
        first, second = cells[large], cells[small]
        counts = [discordant(x, y) for x, y in zip(first, second, strict=False)]
        n10, n01 = sum(x for x, _ in counts), sum(y for _, y in counts)
        effect = replace(effect, given=in_order(small), n10=n10, n01=n01)
        if len(first) == len(second) == 1 and joint.independent:
            n = first.shape[1]
            low, high = paired_interval(n10, n01, n)
            p = mcnemar_exact(n10, n01)
            return replace(effect, estimate=(n10 - n01) / n, low=low, high=high, p=p, test=MCNEMAR)
    contrast = joint.contrast({names[cell]: weight for cell, weight in weights.items()})
    return replace(
        effect,
        estimate=contrast.estimate,
        low=contrast.low,
        high=contrast.high,
        p=contrast.p,
        test=STUDENT,
        with_seeds=contrast.with_seeds,
    )


def _corrected(effects: Sequence[Effect], keys: Sequence[Collection[Any]]) -> list[Effect]:
    """Adjust p-values within each correction; one contrast under two names counts as one hypothesis."""
    corrected = list(effects)
    methods: tuple[Correction, ...] = ("holm", "fdr_bh")
    for method in methods:
        own = [i for i, effect in enumerate(effects) if effect.correction == method and effect.p is not None]
        unique = {keys[i]: effects[i].p for i in own}
        adjusted = dict(zip(unique, adjust(list(unique.values()), method), strict=True))
        for i in own:
            corrected[i] = replace(effects[i], p_adjusted=adjusted[keys[i]])
    return corrected
