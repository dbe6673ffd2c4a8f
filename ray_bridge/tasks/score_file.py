"""Score a file of outputs with a task's own code: one JSON object a line with id, gold and output."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from ray_bridge.tasks.data.json_rows import json_lines
from ray_bridge.tasks.data.rows import RowError, field, shown, text_field, whole_text
from ray_bridge.tasks.score_outputs import score_outputs
from ray_bridge.tasks.task import Example, Score, Task


@dataclass(frozen=True, kw_only=True)
class ScoredLine:
    """One line of a file.

    Attributes:
        place: "line N", counted from 1.
        example: id and gold answer.
        output: the text that was scored.
        score: its score.
    """

    place: str
    example: Example
    output: str
    score: Score

    @property
    def differs(self) -> bool:
        """Whether the two rules disagree."""
        return self.score.correct != self.score.flexible

    def record(self) -> dict[str, Any]:
        """Return the line with its score, as JSON holds it: the verdicts `strict` and `flexible`."""
        score = self.score
        verdict = {"strict": score.correct, "flexible": score.flexible, "valid": score.valid, "stopped": score.stopped}
        return {"id": self.example.id, "gold": self.example.gold, "answer": score.answer, **verdict}


def score_file(file: Path, task: Task, output_field: str = "output") -> list[ScoredLine]:
    """Score every line of a file.

    Args:
        file: JSONL with `id` (or `index`), `gold`, the outputs, and for multiple choice the list `choices`.
        task: whose rules apply.
        output_field: name of the field with the output, e.g. `bridged_output` in a samples.jsonl.

    Raises:
        UserError: in one line with file, line and remedy, for a line that cannot be scored.
    """
    places, examples, outputs = [], [], []
    for number, row in enumerate(json_lines(file)):
        try:
            examples.append(_example(task, row.fields, number))
            outputs.append(_output(row.fields, output_field))
        except RowError as error:
            raise UserError(f"{row.file}, {row.place}: {error}") from error
        places.append(row.place)
    scores = score_outputs(task, outputs, examples, os.cpu_count() or 1)
    lines = zip(places, examples, outputs, scores, strict=True)
    return [ScoredLine(place=p, example=e, output=o, score=s) for p, e, o, s in lines]


def _example(task: Task, fields: Mapping[str, Any], number: int) -> Example:
    name = _name(fields, number)
    given = field(fields, "gold")
    text = str(given) if isinstance(given, int | float) and not isinstance(given, bool) else text_field(fields, "gold")
    choices = fields.get("choices", ())
    if not isinstance(choices, list | tuple) or not all(isinstance(choice, str) for choice in choices):
        raise RowError("choices is no list of texts")
    example = Example(id=name, index=number, question="", answer="", gold=text, choices=tuple(choices))
    gold_of = getattr(task, "gold_of", None)  # a class of one's own may do without
    return example if gold_of is None else replace(example, gold=gold_of(text, example))


def _name(fields: Mapping[str, Any], number: int) -> str:
    key = "id" if "id" in fields else "index"
    value = fields.get(key, number)
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise RowError(f"{key} is {shown(value)}; text or a number is expected, or leave the field out")
    return whole_text(str(value), key)


def _output(fields: Mapping[str, Any], name: str) -> str:
    output = field(fields, name)
    if not isinstance(output, str):
        raise RowError(f"{name} is {shown(output)}; text in quotes is expected")
    return output
