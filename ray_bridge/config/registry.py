"""Tables of the classes that a spec may name: the package's own, those that plug-ins register, and any MODULE:CLASS.

A class is imported when it is used, so that the command line can check a name of the package without importing torch.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bridge_common.errors import UserError
from ray_bridge.config.plugins import import_plugin

Value = bool | int | float | str

# The tables live beside the classes they list; a spec, which those rooms import, reaches them by name.
_HOMES = {"task": "ray_bridge.tasks.registry:TASKS", "bridge": "ray_bridge.bridges.registry:BRIDGES"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting that a plug-in's class adds to the job's spec, as the field `extra.NAME`.

    Attributes:
        name: its name after `extra.`.
        default: its value if nothing is set; values are read as this one's type.
        meaning: what it does, for `python -m cluster fields`.
    """

    name: str
    default: Value
    meaning: str

    def read(self, value: Any) -> Value:
        """Return a value as the default's type.

        Raises:
            UserError: if it cannot be read as that.
        """
        try:
            read: Value = TypeAdapter(type(self.default)).validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise UserError(f"extra.{self.name}={value!r}: {message[:1].lower()}{message[1:]}") from error
        return read


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a registry: a name, its class as MODULE:CLASS, and what it means."""

    name: str
    target: str
    meaning: str


class Registry:
    """The classes that one field of the spec may name."""

    def __init__(self, field: str, interface: tuple[str, ...]) -> None:
        """Initialise the registry.

        Args:
            field: the spec's field, such as `task`.
            interface: attributes that every class must have.
        """
        self.field, self.interface = field, interface
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, target: str, meaning: str) -> None:
        """Add an entry.

        Args:
            name: what the spec's field may say.
            target: its class, as MODULE:CLASS.
            meaning: what it is, in a few words.

        Raises:
            UserError: if the name stands for another class, or the target is no MODULE:CLASS.
        """
        known = self._entries.get(name)
        if known is not None and known.target != target:
            raise UserError(f"{self.field} {name!r} is {known.target} already: register {target} under another name")
        if ":" not in target or ":" in name:
            raise UserError(f"{self.field} {name!r}: register a name without a colon, for a class as MODULE:CLASS")
        self._entries[name] = Entry(name=name, target=target, meaning=meaning)

    def entries(self) -> tuple[Entry, ...]:
        """Return all entries, in order of registration."""
        return tuple(self._entries.values())

    def classes_in(self, module: ModuleType) -> tuple[Entry, ...]:
        """Return the classes of a module, or of a package's modules, that have the interface and are not registered."""
        known = {entry.target for entry in self._entries.values()}
        classes = [
            found
            for found in vars(module).values()
            if isinstance(found, type) and f"{found.__module__}.".startswith(f"{module.__name__}.")
        ]
        entries = [
            Entry(name=target, target=target, meaning=(found.__doc__ or "").strip().partition("\n")[0].rstrip("."))
            for found in classes
            if (target := f"{found.__module__}:{found.__name__}") not in known
            and all(hasattr(found, part) for part in self.interface)
        ]
        return tuple(entries)

    def check(self, name: str) -> str:
        """Return a name that can be used; a class outside the package is imported and checked.

        Raises:
            UserError: if there is no such name, or its class cannot be imported or lacks the interface.
        """
        if not self._is_own(name):
            self.load(name)
        return name

    def load(self, name: str) -> Any:
        """Import the class of a name.

        Raises:
            UserError: as `check`.
        """
        target = name if ":" in name else self._entries[name].target if name in self._entries else None
        if target is None:
            known = ", ".join(self._entries)
            raise UserError(f"{self.field}={name!r}: there are {known}; a class of your own is MODULE:CLASS")
        module, _, attribute = target.partition(":")
        found = getattr(import_plugin(module), attribute, None)
        if not isinstance(found, type):
            raise UserError(f"{self.field}={name!r}: module {module} has no class {attribute!r}; give MODULE:CLASS")
        if lacking := [part for part in self.interface if not hasattr(found, part)]:
            raise UserError(f"{self.field}={name!r}: the class lacks {', '.join(lacking)}; see docs/plugins.md")
        return found

    def settings(self, name: str) -> tuple[Setting, ...]:
        """Return what the class of a name adds to the spec: its attribute `settings`; nothing for the package's own.

        Raises:
            UserError: as `check`, or if `settings` holds something else.
        """
        declared = () if self._is_own(name) else getattr(self.load(name), "settings", ())
        if not isinstance(declared, tuple) or not all(isinstance(each, Setting) for each in declared):
            raise UserError(f"{self.field}={name!r}: `settings` of the class must be a tuple of ray_bridge.Setting")
        return declared

    def _is_own(self, name: str) -> bool:
        return name in self._entries and self._entries[name].target.startswith("ray_bridge.")


def registry_of(field: str) -> Registry:
    """Return the registry of a spec's field, `task` or `bridge`."""
    module, _, name = _HOMES[field].partition(":")
    found: Registry = getattr(importlib.import_module(module), name)
    return found


def settings_of(task: str, bridge: str) -> dict[str, Setting]:
    """Return the settings that the classes of a task and a bridge add to the spec, by name.

    Raises:
        UserError: if a class cannot be used, or both add a setting of one name.
    """
    found: dict[str, Setting] = {}
    for field, name in (("task", task), ("bridge", bridge)):
        for setting in registry_of(field).settings(name):
            if setting.name in found:
                raise UserError(f"{task} and {bridge} both have a setting {setting.name!r}: rename one of them")
            found[setting.name] = setting
    return found


def read_extra(given: Mapping[str, Any], task: str, bridge: str) -> dict[str, Value]:
    """Return the values of all settings that a task and a bridge add: those given, read as their type, else defaults.

    Raises:
        UserError: for a name that neither class has, or a value of another type.
    """
    known = settings_of(task, bridge)
    if unknown := sorted(given.keys() - known.keys()):
        there = ", ".join(f"extra.{name}" for name in known)
        hint = f"there are {there}" if known else f"task {task} and bridge {bridge} have no settings of their own"
        raise UserError(f"unknown field {f'extra.{unknown[0]}'!r}: {hint}")
    return {name: setting.read(given.get(name, setting.default)) for name, setting in known.items()}
