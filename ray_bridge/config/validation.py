"""Specs as frozen, validated values, with errors of one line."""

from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bridge_common.errors import UserError

Spec = TypeVar("Spec", bound=BaseModel)


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


def _explain(spec_type: type[BaseModel], problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if isinstance(cause := problem.get("ctx", {}).get("error"), UserError):
        return str(cause)
    if problem["type"] == "extra_forbidden":
        import difflib

        close = difflib.get_close_matches(name, spec_type.model_fields, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "`python -m cluster fields` lists them"
        return f"unknown field {name!r}: {hint}"
    if not name:
        return str(problem["msg"]).removeprefix("Value error, ")
    return f"{name}={problem['input']!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"
