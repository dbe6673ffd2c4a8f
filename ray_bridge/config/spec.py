"""`JobSpec` says everything that defines a job's result; where and how it is carried out is in `run_spec`.

The split is what gives a fingerprint its meaning: two runs of one `JobSpec` are the same experiment, whatever the
machine, the number of workers or the evaluation batch size.
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ValidationInfo, field_validator, model_serializer, model_validator

from ray_bridge.config.job_fields import JobFields
from ray_bridge.config.plugins import import_plugin
from ray_bridge.config.registry import read_extra, registry_of, settings_of
from ray_bridge.config.task_mapping import MAPPED, known_mapping, known_mappings
from ray_bridge.config.task_needs import task_needs
from ray_bridge.config.transfer_rules import misfit
from ray_bridge.config.unused_fields import unused_fields
from ray_bridge.config.validation import build

EXTRA = "extra."  # start of a plug-in's setting, as the command line and records name it


class JobSpec(JobFields):
    """Everything that defines the result of one translator job, in the fields of `JobFields`."""

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, values: Any) -> Any:
        """Gather settings `extra.NAME` into `extra`, and fill in the package's mapping of a task that has one."""
        if not isinstance(values, Mapping):
            return values
        fields = {name: value for name, value in values.items() if not name.startswith(EXTRA)}
        extra = {name.removeprefix(EXTRA): values[name] for name in values if name not in fields}
        if extra:
            fields["extra"] = {**extra, **values.get("extra", {})}
        if values.get("task") in known_mappings() and not values.get("task_mapping"):
            fields["task_mapping"] = known_mapping(values["task"])
        return fields

    @field_validator("plugins")
    @classmethod
    def _import(cls, plugins: tuple[str, ...]) -> tuple[str, ...]:
        named = tuple(dict.fromkeys(module.strip() for module in plugins))
        for module in named:
            import_plugin(module)
        return named

    @field_validator("task", "bridge")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        return registry_of(str(info.field_name)).check(name)

    @field_validator("extra", mode="before")
    @classmethod
    def _settings(cls, given: Any, info: ValidationInfo) -> Any:
        known = info.data
        if isinstance(given, Mapping) and "task" in known and "bridge" in known:
            return read_extra(given, known["task"], known["bridge"])
        return given

    @model_serializer
    def flat(self) -> dict[str, Any]:
        """Return every field by name, as records hold a spec: settings of plug-ins as `extra.NAME`.

        A spec without plug-ins has neither `plugins` nor `extra`, and one of another task no `task_mapping`: its record
        and its fingerprint are the same as before there were such fields.
        """
        values = dict(vars(self))
        plugins, extra, mapping = values.pop("plugins"), values.pop("extra"), values.pop("task_mapping")
        values |= {"plugins": plugins} if plugins else {}
        values |= {"task_mapping": mapping.model_dump(mode="json")} if mapping else {}
        return values | {f"{EXTRA}{name}": value for name, value in extra.items()}

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, validated as a new object.

        Where the task or the bridge changes, settings that only the old one had are left out, as are the old task's
        folder, revision and mapping, and what was as the old task needs it is then as the new one does.

        Raises:
            UserError: for an unknown field or an impossible value; the message names the field and what it takes.
        """
        kept = self.flat()
        if self.extra and changes.keys() & {"task", "bridge"}:
            known = settings_of(changes.get("task", self.task), changes.get("bridge", self.bridge))
            lost = {f"{EXTRA}{name}" for name in self.extra.keys() - known.keys()}
            kept = {name: value for name, value in kept.items() if name not in lost}
        if changes.get("task", self.task) != self.task:
            kept |= {"task_data": None, "task_revision": None, "task_mapping": None}
            needs = task_needs(self.task, self.task_mapping)
            kept = {name: value for name, value in kept.items() if name not in needs or value != needs[name]}
        return build(type(self), {**kept, **changes})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.task_mapping is None) == (self.task in (MAPPED, *known_mappings())):
            raise ValueError(
                f"task {self.task} has no mapping: name its file, --task FILE.toml"
                if self.task_mapping is None
                else f"task_mapping belongs to the task mapped, not to {self.task}"
            )
        if self.task_mapping is not None and self.task_revision is not None:
            raise ValueError("task_revision: name revisions in the mapping, under [train] and [test]")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of num_heads {self.num_heads}")
        if problem := misfit(self):
            raise ValueError(problem)
        if self.decode_aware and self.decode_weight == 0 and self.on_policy_distill == 0:
            raise ValueError("decode_aware is on but decode_weight and on_policy_distill are both 0: set one of them")
        return self

    @property
    def unused(self) -> Mapping[str, str]:
        """Fields that cannot change the result, each with the setting that makes it so."""
        return unused_fields(self)
