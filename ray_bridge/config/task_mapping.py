"""How rows of any data set become examples of a task: a small mapping, written as TOML, that is part of the spec."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from bridge_common.errors import UserError
from bridge_common.user_files import read_text
from ray_bridge.config.validation import Frozen, build

_FOLDER = Path(__file__).parent / "task_mappings"
MAPPED = "mapped"
"""The task of a spec whose mapping is not one of the package's."""

Names = str | tuple[str, ...]
Kind = Literal["exact", "numeric", "letter", "letter_likelihood", "choice_likelihood"]


class DataSource(Frozen):
    """Where the rows of one split are, if no folder is given."""

    data: str = Field(description="data set on the hub, OWNER/NAME")
    config: Names | None = Field(None, description="configuration, several of them, or * for all")
    split: str = Field(description="name of the split there")
    revision: str | None = Field(None, description="branch, tag or commit; commands pin it to a commit")


class TaskMapping(Frozen):
    """Which fields of a row hold what. A field may be a path, as in `choices.text`."""

    name: str = Field(pattern=r"^[a-z0-9_]+$", description="name of the task, in ids and reports")
    kind: Kind = Field(
        description="exact (the answer's text), numeric (as GSM8K), letter (choices are shown, a letter is generated), "
        "letter_likelihood (choices are shown, the likeliest letter counts), choice_likelihood (choices are not shown, "
        "the likeliest choice counts)"
    )
    train: DataSource | None = Field(None, description="training rows on the hub")
    test: DataSource | None = Field(None, description="test rows on the hub")
    question: str = Field(description="field with the question")
    gold: str = Field(description="field with the right answer")
    gold_form: Literal["text", "label", "index"] = Field(
        "text", description="what gold is: the answer's text, a label of the choices, or their index from 0"
    )
    answer: str | None = Field(None, description="field with a worked answer to train on; gold if there is none")
    choices: Names | None = Field(None, description="field with the list of choices, or one field for each of them")
    labels: str | None = Field(None, description="field with the labels of the choices; A, B, C, ... if none")
    keep: dict[str, str] = Field({}, description="rows are used only if these fields have these values")
    groups: dict[str, str] = Field({}, description="accuracy is also reported by the values of these fields, by name")
    question_cue: str = Field("Question: ", description="text before the question")
    answer_cue: str = Field("Answer:", description="text on the line after the question; answers continue it")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.has_choices and self.choices is None:
            raise ValueError(f"kind {self.kind} needs choices: name the field that lists them")
        if not self.has_choices and (self.choices is not None or self.labels is not None or self.gold_form != "text"):
            raise ValueError(f"kind {self.kind} has no choices: remove choices, labels and gold_form")
        if (self.train is None) != (self.test is None):
            raise ValueError("name both [train] and [test], or neither and give --data DIR")
        return self

    @property
    def has_choices(self) -> bool:
        """Whether an answer is one of several choices."""
        return self.kind not in ("exact", "numeric")


def read_mapping(file: Path) -> TaskMapping:
    """Read a mapping from a TOML file.

    Raises:
        UserError: in one line, if it cannot be read or is no mapping.
    """
    try:
        values: dict[str, Any] = tomllib.loads(read_text(file))
    except (UserError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"task mapping {file}: {error}; see docs/tasks.md for an example") from error
    try:
        return build(TaskMapping, values)
    except UserError as error:
        raise UserError(f"task mapping {file}: {error}") from error


@cache
def known_mappings() -> tuple[str, ...]:
    """Return the names of the package's own mappings."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def known_mapping(name: str) -> TaskMapping:
    """Return one of the package's own mappings by its name."""
    return read_mapping(_FOLDER / f"{name}.toml")
