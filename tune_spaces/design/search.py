"""What a sweep varies, and how a search proposes its points while it runs, from what the earlier ones have shown."""

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from bridge_common.errors import UserError

OPTUNA = "optuna"
SCALES = ("log", "lin", "int")
MOST_LISTED = 10_000  # points of a space that are listed to find one that was not proposed yet
_DRAWS = 1000


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

    @property
    def text(self) -> str:
        """The values as the command line names them."""
        listed = ",".join(str(value).lower() if isinstance(value, bool) else str(value) for value in self.values)
        return listed or f"{self.scale}:{self.low:g}:{self.high:g}"

    @property
    def size(self) -> float:
        """Number of values; infinite for a range of real numbers."""
        return len(self.values) or (int(self.high) - int(self.low) + 1 if self.scale == "int" else math.inf)

    def ends(self) -> tuple[Any, ...]:
        """Return all values, or the smallest and the largest of a range."""
        return self.values or (self.rounded(self.low), self.rounded(self.high))

    def rounded(self, value: Any) -> Any:
        """Return a value as it is run and recorded: numbers of a range have four digits."""
        if self.values:
            return value
        return int(value) if self.scale == "int" else min(max(float(f"{value:.4g}"), self.low), self.high)

    def draw(self, source: random.Random) -> Any:
        """Return one value."""
        if self.values:
            return source.choice(self.values)
        if self.scale == "int":
            return source.randint(int(self.low), int(self.high))
        if self.scale == "log":
            return self.rounded(math.exp(source.uniform(math.log(self.low), math.log(self.high))))
        return self.rounded(source.uniform(self.low, self.high))


def parse_axis(text: str) -> Axis:
    """Return the axis of `FIELD=A,B,C`, or of `FIELD=log:LOW:HIGH`, `lin:LOW:HIGH` or `int:LOW:HIGH`.

    Raises:
        UserError: if it is anything else.
    """
    field, sign, values = text.partition("=")
    scale, *ends = values.split(":")
    if sign and field and scale in SCALES:
        try:
            low, high = map(float, ends)
        except ValueError:
            low, high = 1.0, 0.0
        if not (math.isfinite(low) and math.isfinite(high)):
            raise UserError(f"--over {text}: give finite numbers")
        if scale == "log" and low <= 0 and low < high:
            raise UserError(f"--over {text}: a logarithm needs 0 < LOW; use lin: for a range with 0 or less")
        if scale == "int" and not (low.is_integer() and high.is_integer()):
            raise UserError(f"--over {text}: give whole numbers, or use lin:")
        if low < high:
            return Axis(field=field, scale=scale, low=low, high=high)
    elif sign and field and all(value.strip() for value in values.split(",")):
        listed = [value.strip() for value in values.split(",")]
        if len(set(listed)) < len(listed):
            raise UserError(f"--over {text}: name each value once")
        return Axis(field=field, values=tuple(listed))
    raise UserError(
        f"--over {text}: give FIELD=A,B,C, or FIELD=log:LOW:HIGH, lin:LOW:HIGH, int:LOW:HIGH with LOW < HIGH"
    )


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search that proposes the points of a sweep one after another.

    Attributes:
        axes: the settings and their values.
        trials: number of points that it proposes.
        method: who proposes them.
    """

    axes: tuple[Axis, ...]
    trials: int
    method: str = OPTUNA

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> "Search | None":
        """Return the search that `asdict` described, or None for None."""
        if record is None:
            return None
        axes = tuple(Axis(**{**axis, "values": tuple(axis["values"])}) for axis in record["axes"])
        return cls(**{**record, "axes": axes})

    def record(self) -> dict[str, Any]:
        """Return plain values, as JSON reads them back."""
        return {**asdict(self), "axes": [{**asdict(axis), "values": list(axis.values)} for axis in self.axes]}

    def rounded(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return a point with the values that are run and recorded."""
        return {axis.field: axis.rounded(point[axis.field]) for axis in self.axes}

    def ends(self) -> list[dict[str, Any]]:
        """Return points of which one or another has each end of every axis, or each of its values."""
        ends = [axis.ends() for axis in self.axes]
        most = max(map(len, ends))
        return [
            {axis.field: own[min(at, len(own) - 1)] for axis, own in zip(self.axes, ends, strict=True)}
            for at in range(most)
        ]

    def unseen(
        self,
        seen: Iterable[Mapping[str, Any]],
        source: random.Random,
        possible: Callable[[Mapping[str, Any]], bool] = lambda point: True,
    ) -> dict[str, Any] | None:
        """Return a possible point at random that is not among those seen, or None if there is none."""
        known, fields = {repr(dict(point)) for point in seen}, [axis.field for axis in self.axes]
        if math.prod(axis.size for axis in self.axes) <= MOST_LISTED:
            choices = [axis.values or range(int(axis.low), int(axis.high) + 1) for axis in self.axes]
            points = (dict(zip(fields, values, strict=True)) for values in product(*choices))
            left = [point for point in points if repr(point) not in known and possible(point)]
            return source.choice(left) if left else None
        drawn = ({axis.field: axis.draw(source) for axis in self.axes} for _ in range(_DRAWS))
        return next((point for point in drawn if repr(point) not in known and possible(point)), None)


def make_search(axes: Sequence[Axis], trials: int) -> Search:
    """Return a search over settings, of as many trials as there are different points at most.

    Raises:
        UserError: for fewer trials than one.
    """
    if trials < 1:
        raise UserError(f"--trials {trials}: propose at least one point")
    return Search(axes=tuple(axes), trials=int(min(trials, math.prod(axis.size for axis in axes))))
