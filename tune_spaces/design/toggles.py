"""The registry of toggles: which settings of a spec campaigns switch on and off, and what each position means.

Tune's search space, the command line's help, MLflow's parameters and the columns of tables are all derived from it, so
a toggle that is registered here appears in all of them and nothing else has to be edited.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge_common.errors import UserError
from ray_bridge import settings_of

ON, OFF = "on", "off"


@dataclass(frozen=True, kw_only=True)
class Toggle:
    """One setting with two positions.

    Attributes:
        key: short name, part of the names of variants: `no-kl`, `kl+decode`.
        field: the field of the job's spec that it sets.
        on: the field's value when on.
        off: the field's value when off, which is the behaviour without the fix.
        meaning: what happens when on.
        without: what happens when off.
        reference: the paper or rule on which it rests.
        column: heading of its column in reports.
    """

    key: str
    field: str
    on: Any = True
    off: Any = False
    meaning: str
    without: str
    reference: str
    column: str

    def position(self, value: Any) -> str:
        """Return `on` or `off` for a value of the field, or the value as text if it is neither."""
        return ON if value == self.on else OFF if value == self.off else str(value)


_REGISTRY: dict[str, Toggle] = {}


def register_toggle(toggle: Toggle) -> Toggle:
    """Add a toggle and return it; one with the same key is replaced."""
    _REGISTRY[toggle.key] = toggle
    return toggle


def all_toggles() -> tuple[Toggle, ...]:
    """Return the registered toggles, in order of registration."""
    return tuple(_REGISTRY.values())


def applicable(task: str, bridge: str) -> tuple[Toggle, ...]:
    """Return the toggles whose field a job has.

    A toggle of a setting `extra.NAME` applies if the class of the task or the bridge declares that setting.

    Raises:
        UserError: if a class cannot be used, or both declare a setting of one name.
    """
    known = {f"extra.{name}" for name in settings_of(task, bridge)}
    return tuple(t for t in all_toggles() if not t.field.startswith("extra.") or t.field in known)


def find(name: str) -> Toggle:
    """Return the toggle with this key or field.

    Raises:
        UserError: there is none.
    """
    for toggle in _REGISTRY.values():
        if name in (toggle.key, toggle.field):
            return toggle
    raise UserError(f"unknown toggle {name!r}: there are {', '.join(_REGISTRY)}")


def settings(on: Iterable[str], among: Iterable[Toggle] | None = None) -> dict[str, Any]:
    """Return the fields of a spec, with their values, that switch the named toggles on and all others off."""
    chosen = {find(name).key for name in on}
    return {t.field: t.on if t.key in chosen else t.off for t in (all_toggles() if among is None else among)}


def values(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every toggle's field in a spec, by field; a field that the spec does not have is left out."""
    return {t.field: spec[t.field] for t in all_toggles() if t.field in spec}


def positions(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the position of every toggle in a spec, by field."""
    return {t.field: t.position(spec[t.field]) for t in all_toggles() if t.field in spec}


def parameters(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return MLflow's parameters of a run: positions of the toggles (`toggle.KEY`), then the other fields given."""
    toggles = {t.field: f"toggle.{t.key}" for t in all_toggles() if t.field in spec}
    return {
        **{toggles[field]: position for field, position in positions(spec).items()},
        **{field: value for field, value in spec.items() if field not in toggles},
    }


def columns() -> dict[str, str]:
    """Return the headings of the toggles' columns in reports, by the spec's field."""
    return {t.field: t.column for t in all_toggles()}


def help_text() -> str:
    """Return one paragraph per toggle, for the command line's help."""
    return "\n\n".join(
        f"{t.key} ({t.field}): on: {t.meaning}; off: {t.without}. [{t.reference}]" for t in all_toggles()
    )


register_toggle(
    Toggle(
        key="kl",
        field="kl_alignment",
        meaning="KL(teacher ‖ student) on answer tokens against the same answer tokens",
        without="the first 20 positions after the soft tokens against the first 20 of the prompt",
        reference="Hinton et al. 2015, on aligned answer positions",
        column="KL alignment",
    )
)
register_toggle(
    Toggle(
        key="prompt",
        field="prompt_alignment",
        meaning="weight 0.001 on the squared distance of soft tokens to the question's embeddings",
        without="weight 0.05 on the same loss",
        reference="regularisation towards the target's own embeddings",
        column="prompt weight",
    )
)
register_toggle(
    Toggle(
        key="decode",
        field="decode_aware",
        meaning="reinforce answers that the target decodes freely, and distil on them",
        without="no such supervision",
        reference="RLOO: Ahmadian et al. 2024; on-policy distillation: Agarwal et al. 2024",
        column="decode-aware",
    )
)
register_toggle(
    Toggle(
        key="projection",
        field="geometry_projection",
        meaning="source states are brought to the target's tokens, space and position code before the bridge",
        without="the bridge's own input layer reads raw source states",
        reference="ridge map over shared vocabulary; RoPE: Su et al. 2021",
        column="RoPE/tokenizer projection",
    )
)
