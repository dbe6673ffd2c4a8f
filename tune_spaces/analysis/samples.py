"""The scored answers of one run, read from its sample file.

Texts stay on disk: 200 trials of 1,319 long outputs would fill the memory, and only items that changed are quoted.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge_common.errors import UserError
from bridge_common.files import json_line
from bridge_common.metric_names import BUDGETED, CONDITIONS, budget_of
from bridge_common.user_files import lines_of, open_file
from ray_bridge import normalise_number

RESERVED = ("id", "index", "question", "gold", "cluster", "choices")
MOST_VALUES = 40  # of a group; a field with more is no group but a text
NO_ANSWER = ("", "nan", "[invalid]")
FOREIGN_NAMES = {"target_alone": "target", "source_alone": "source"}
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class ScoredAnswers:
    """Scores of the answers under one condition: `correct` and `valid`, both (n,)."""

    correct: NDArray[np.bool_]
    valid: NDArray[np.bool_]

    @property
    def invalid(self) -> int:
        """Number of items without an answer."""
        return int(np.sum(~self.valid))


@dataclass(frozen=True, kw_only=True)
class Samples:
    """One run on n items, in the order of its file or of the run to which it was aligned.

    Attributes:
        path: the sample file.
        keys: `id`, `index` or both, as the file has them, with the value of each item as text.
        gold: gold answer of each item, normalised.
        questions: hash of each item's question without its spacing, or None if the file has no questions.
        clusters: name of the group of items that each belongs to and that are not independent, such as questions made
            from one template; None if the file has no field `cluster`.
        groups: value of each item under each group that the task names, such as MATH's `level`, by name.
        conditions: scored answers by condition; `bridged` is always there.
        offsets: byte at which each item's line starts, (n,).
    """

    path: Path
    keys: dict[str, tuple[str, ...]]
    gold: tuple[Any, ...]
    questions: tuple[int, ...] | None
    clusters: tuple[str, ...] | None
    conditions: dict[str, ScoredAnswers]
    offsets: NDArray[np.int64]
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.gold)

    def cluster_numbers(self) -> NDArray[np.int64] | None:
        """Return the number of each item's cluster, (n,), or None if all items are independent."""
        if self.clusters is None:
            return None
        return np.unique(self.clusters, return_inverse=True)[1].astype(np.int64)

    def take(self, order: Sequence[int]) -> "Samples":
        """Return the same run with its items in another order, given by their positions."""
        rows = np.asarray(order, dtype=int)
        return replace(
            self,
            keys={name: tuple(values[i] for i in order) for name, values in self.keys.items()},
            gold=tuple(self.gold[i] for i in order),
            questions=None if self.questions is None else tuple(self.questions[i] for i in order),
            clusters=None if self.clusters is None else tuple(self.clusters[i] for i in order),
            conditions={
                name: ScoredAnswers(correct=answers.correct[rows], valid=answers.valid[rows])
                for name, answers in self.conditions.items()
            },
            offsets=self.offsets[rows],
            groups={name: tuple(values[i] for i in order) for name, values in self.groups.items()},
        )


def _rows(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield line number, byte offset and value of each line that is not blank."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the samples.jsonl file itself")
    if not path.exists():
        raise UserError(f"{path}: no such file; check the path given to --samples")
    offset = 0
    with open_file(path) as file:
        for number, line in enumerate(lines_of(file, path), 1):
            start, offset = offset, offset + len(line)
            if number == 1 and line.startswith(BOM):
                start, line = start + len(BOM), line[len(BOM) :]  # noqa: PLW2901
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode())
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}, line {number}: not JSON ({error}); one object a line is needed") from error
            if b"\\ud" in line.lower() and not _has_utf8(row):
                raise UserError(f"{path}, line {number}: holds half a surrogate pair; write the character, in UTF-8")
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number}: not a JSON object; one object a line is needed")
            yield number, start, row


def _has_utf8(row: Any) -> bool:
    """Return whether all texts of a row can be written again: JSON's escapes can also give half a surrogate pair."""
    try:
        json_line(row).encode()
    except UnicodeEncodeError:
        return False
    return True


def _fields(path: Path, first: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    """Return a file's conditions, from its first row, with the fields of answer, verdict and validity of each."""
    fields = {}
    at_budgets = [name for field in first if budget_of(name := field.removesuffix("_correct")) and name != field]
    for condition in (*CONDITIONS, *at_budgets):
        for name in (condition, FOREIGN_NAMES.get(condition, condition)):
            if f"{name}_answer" in first or f"{name}_correct" in first:
                fields[condition] = (f"{name}_answer", f"{name}_correct", f"{name}_valid")
                break
    if "bridged" not in fields:
        raise UserError(f"{path}: has no bridged_answer (nor bridged_correct); nothing can be scored")
    return fields


def _group_fields(first: dict[str, Any]) -> list[str]:
    """Return the fields of a file's first row that may be groups: texts that are no part of a condition's answer."""
    of_conditions = tuple(f"{name}_" for name in (*CONDITIONS, *FOREIGN_NAMES.values(), *BUDGETED))
    return [
        name
        for name, value in first.items()
        if isinstance(value, str) and name not in RESERVED and not name.startswith(of_conditions)
    ]


def _groups(values: dict[str, list[Any]]) -> dict[str, tuple[str, ...]]:
    """Return the fields that divide the items: texts of two values or more, not too many."""
    return {
        name: tuple(column)
        for name, column in values.items()
        if all(isinstance(value, str) for value in column)
        and 2 <= len(set(column)) <= min(MOST_VALUES, len(column) - 1)
    }


def _keys(path: Path, first: dict[str, Any]) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {name: [] for name in ("id", "index") if name in first}
    if not keys:
        raise UserError(f"{path}: has neither id nor index, so its items cannot be aligned; add one of them")
    return keys


def _score(place: str, row: dict[str, Any], fields: tuple[str, str, str]) -> tuple[bool, bool]:
    """Return whether an answer is correct and whether there is one: the file's own verdict, or else ours."""
    answer, correct, valid = fields
    verdict, validity = row.get(correct), row.get(valid)
    if verdict is None:
        verdict = is_correct(row.get(answer), row.get("gold"))
    if validity is None:
        validity = is_valid(row.get(answer))
    if not (isinstance(verdict, bool) and isinstance(validity, bool)):
        name, value = (valid, validity) if isinstance(verdict, bool) else (correct, verdict)
        raise UserError(f"{place}: {name} is {value!r}; it must be true or false")
    return verdict, validity


def load_samples(path: Path) -> Samples:
    """Read a sample file: ours, or any JSONL with `index` or `id`, `gold` and `bridged_answer`.

    If the file has verdicts (`bridged_correct`), they count; otherwise answers are compared with the gold ones
    (`is_correct`). A missing or null answer is invalid.

    Raises:
        UserError: the file cannot be read so; the message names the line and what it needs.
    """
    path = Path(path)
    keys: dict[str, list[str]] = {}
    fields: dict[str, tuple[str, str, str]] = {}
    scores: dict[str, list[tuple[bool, bool]]] = {}
    gold: list[Any] = []
    questions: list[int] = []
    clusters: list[str] = []
    columns: dict[str, list[Any]] = {}
    offsets: list[int] = []
    for number, offset, row in _rows(path):
        place = f"{path}, line {number}"
        if not offsets:
            keys, fields = _keys(path, row), _fields(path, row)
            scores = {condition: [] for condition in fields}
            columns = {name: [] for name in _group_fields(row)}
        for name, values in keys.items():
            if row.get(name) is None:
                raise UserError(f"{place}: has no {name}; every line needs one")
            values.append(str(row[name]))
        if "gold" not in row:
            raise UserError(f"{place}: has no gold answer; every line needs gold")
        gold.append(normalise(row["gold"]))
        for name, column in columns.items():
            column.append(row.get(name))
        for condition, names in fields.items():
            scores[condition].append(_score(place, row, names))
        if isinstance(row.get("question"), str):
            questions.append(hash("".join(row["question"].split())))
        cluster = row.get("cluster")
        clusters.append(f"item {number}" if cluster in (None, "") else str(cluster))
        offsets.append(offset)
    if not offsets:
        raise UserError(f"{path}: holds no samples; give the file of a finished evaluation")
    for name, values in keys.items():
        _refuse_repeats(path, name, values)
    tables = {condition: np.array(rows, dtype=bool) for condition, rows in scores.items()}  # (n, 2)
    return Samples(
        path=path,
        keys={name: tuple(values) for name, values in keys.items()},
        gold=tuple(gold),
        questions=tuple(questions) if len(questions) == len(gold) else None,
        clusters=tuple(clusters) if len(set(clusters)) < len(clusters) else None,
        conditions={name: ScoredAnswers(correct=table[:, 0], valid=table[:, 1]) for name, table in tables.items()},
        offsets=np.array(offsets, dtype=np.int64),
        groups=_groups(columns),
    )


def _refuse_repeats(path: Path, name: str, values: Sequence[str]) -> None:
    if len(set(values)) == len(values):
        return
    repeated = next(value for value, count in Counter(values).items() if count > 1)
    raise UserError(f"{path}: {name} {repeated} occurs twice; every item may occur once")


def read_rows(samples: Samples, positions: Iterable[int]) -> list[dict[str, Any]]:
    """Read the whole rows of some items again from the file, by their positions in `samples`."""
    rows = []
    with samples.path.open("rb") as file:
        for position in positions:
            file.seek(int(samples.offsets[position]))
            rows.append(json.loads(file.readline().decode()))
    return rows


def is_valid(answer: Any) -> bool:
    """Return whether there is an answer: null, NaN, blank and `[invalid]` are none."""
    return answer is not None and str(answer).strip().lower() not in NO_ANSWER


def normalise(answer: Any) -> str:
    """Return an answer in canonical form: a number (`18.`, `$18`, `1,000`, `#### 18`), or else casefolded text."""
    return _normalised(str(answer))


@lru_cache(maxsize=1 << 14)  # the trials of a campaign share their gold answers
def _normalised(answer: str) -> str:
    text = answer.strip().removeprefix("####")
    return normalise_number(text) or " ".join(text.casefold().split())


def is_correct(answer: Any, gold: Any) -> bool:
    """Return whether an answer equals the gold one after normalisation; no answer is never correct."""
    return is_valid(answer) and is_valid(gold) and normalise(answer) == normalise(gold)
