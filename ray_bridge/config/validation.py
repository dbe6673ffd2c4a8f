"""Specs as frozen, validated values, with errors of one line."""

from collections.abc import Sequence
from typing import Any, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from bridge_common.errors import UserError

Spec = TypeVar("Spec", bound=BaseModel)
LONGEST = 200
"""Characters of a wrong value that an error repeats."""


class Frozen(BaseModel):
    """A spec that cannot change and refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, validated as a new object.

        Raises:
            UserError: for an unknown field or an impossible value; the message names the field and what it takes.
        """
        return build(type(self), {**self.model_dump(), **changes})


def build(spec_type: type[Spec], values: dict[str, Any]) -> Spec:
    """Make a spec from plain values; strings are read as the field's type.

    Raises:
        UserError: in one line, each wrong field and what it takes.
    """
    try:
        return spec_type.model_validate(values)
    except ValidationError as error:
        problems = [problem for problem in error.errors() if problem["type"] != "default_factory_not_called"]
        raise UserError("; ".join(_explain(spec_type, problem) for problem in problems)) from error


def _holder(spec_type: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel]:
    """Return the type of the spec, perhaps a nested one, that a field's path ends in."""
    for name in path[:-1]:
        field = spec_type.model_fields.get(str(name))
        options = (field.annotation, *get_args(field.annotation)) if field else ()
        spec_type = next((one for one in options if isinstance(one, type) and issubclass(one, BaseModel)), spec_type)
    return spec_type


def _explain(spec_type: type[BaseModel], problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if isinstance(cause := problem.get("ctx", {}).get("error"), UserError):
        return str(cause)
    if problem["type"] == "extra_forbidden":
        import difflib

        fields = list(_holder(spec_type, problem["loc"]).model_fields)
        close = difflib.get_close_matches(str(problem["loc"][-1]), fields, n=3, cutoff=0.5)
        there = f"there are {', '.join(fields)}" if len(fields) < 20 else "`python -m cluster fields` lists them"
        hint = f"did you mean {' or '.join(close)}?" if close else there
        return f"unknown field {name!r}: {hint}"
    if not name:
        return str(problem["msg"]).removeprefix("Value error, ")
    message = str(problem["msg"]).removeprefix("Value error, ")
    value = repr(problem["input"])
    value = value if len(value) <= LONGEST else f"{value[:LONGEST]}..."
    return f"{name}={value}: {message[:1].lower()}{message[1:]}"
