"""Commands that list what a request may name: fields of the specs, tasks, bridges and toggles, also of plug-ins."""

import json
from collections.abc import Callable, Iterable, Sequence
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import click
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cluster.cli.options import plugin_option
from ray_bridge import BRIDGES, TASKS, JobSpec, RunSpec, import_plugin
from ray_bridge.config.registry import Entry, Registry, Setting
from ray_bridge.config.task_mapping import MAPPED, known_mapping, known_mappings
from ray_bridge.config.task_needs import NEEDS, task_needs
from tune_spaces.design.toggles import all_toggles

Row = dict[str, Any]
_SIGNS = {Ge: ("ge", "≥"), Gt: ("gt", ">"), Le: ("le", "≤"), Lt: ("lt", "<")}


def field_rows(plugins: Sequence[str] = ()) -> list[Row]:
    """Return every field that `--set` takes: those of JobSpec and RunSpec, and the settings of plug-ins' classes."""
    rows = [
        {
            "name": name,
            "spec": spec.__name__,
            "type": ", ".join([_type_text(field.annotation), *_bounds(field.metadata)]),
            "default": _default(field),
            "meaning": field.description,
        }
        for spec in (JobSpec, RunSpec)
        for name, field in spec.model_fields.items()
    ]
    settings = {
        f"{entry.name} {setting.name}": {
            "name": f"extra.{setting.name}",
            "spec": "JobSpec",
            "type": type(setting.default).__name__,
            "default": setting.default,
            "meaning": f"{setting.meaning} ({registry.field} {entry.name})",
        }
        for registry in (TASKS, BRIDGES)
        for entry, settings in _entries(registry, plugins)
        for setting in settings
    }
    return [*rows, *settings.values()]


def class_rows(registry: Registry, plugins: Sequence[str] = ()) -> list[Row]:
    """Return every class that a field of the spec may name, with the settings that it adds."""
    return [
        {
            "name": entry.name,
            "default": entry.name == JobSpec.model_fields[registry.field].default,
            "class": entry.target,
            "meaning": entry.meaning,
            "settings": {f"extra.{setting.name}": setting.default for setting in settings},
        }
        for entry, settings in _entries(registry, plugins)
    ]


def task_rows(plugins: Sequence[str] = ()) -> list[Row]:
    """Return every task, with what those that say so need of a job."""
    rows = class_rows(TASKS, plugins)
    return [row | ({"needs": needs} if (needs := _needs(row["name"])) else {}) for row in rows]


def _needs(task: str) -> Row:
    if task == MAPPED:  # which depends on its mapping
        return {}
    task_class = TASKS.load(task)
    if task in known_mappings():
        mapping = known_mapping(task)
        return {**task_needs(task, mapping), "stops": list(task_class(mapping).stops)}
    if not any(hasattr(task_class, name) for name in NEEDS):
        return {}
    return {**task_needs(task), "stops": list(task_class.stops)}


def toggle_rows(plugins: Sequence[str] = ()) -> list[Row]:
    """Return every registered toggle."""
    defaults = {row["name"]: row["default"] for row in field_rows(plugins)}
    return [
        {
            "key": toggle.key,
            "field": toggle.field,
            "default": toggle.position(defaults[toggle.field]) if toggle.field in defaults else None,
            "on": toggle.on,
            "off": toggle.off,
            "meaning": toggle.meaning,
            "without": toggle.without,
            "column": toggle.column,
            "reference": toggle.reference,
        }
        for toggle in all_toggles()
    ]


def _entries(registry: Registry, plugins: Sequence[str]) -> list[tuple[Entry, tuple[Setting, ...]]]:
    entries = [*registry.entries(), *(entry for name in plugins for entry in registry.classes_in(import_plugin(name)))]
    return [(entry, registry.settings(entry.name)) for entry in entries]


def _default(field: FieldInfo) -> Any:
    if field.default_factory is not None and field.default is PydanticUndefined:
        return "as the task needs"
    return None if field.default is PydanticUndefined else field.default


def _type_text(annotation: Any) -> str:
    """Return a field's type in words: `int`, `a | b`, `int or none`, `int, ...`."""
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        metadata = [item for part in parts[1:] for item in (part.metadata if isinstance(part, FieldInfo) else [part])]
        return ", ".join([_type_text(parts[0]), *_bounds(metadata)])
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, parts))
    if get_origin(annotation) is tuple:
        return f"{_type_text(parts[0])},..."
    if get_origin(annotation) is dict:
        return "set as extra.NAME"
    if parts:  # a union
        return " or ".join(map(_type_text, parts))
    return "none" if annotation is NoneType else str(annotation.__name__)


def _bounds(metadata: Iterable[Any]) -> list[str]:
    known = [(getattr(item, _SIGNS[type(item)][0]), _SIGNS[type(item)][1]) for item in metadata if type(item) in _SIGNS]
    return [f"{sign} {limit:g}" for limit, sign in known]


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | dict):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _print(rows: Sequence[Row], as_json: bool, line: Callable[[Row], tuple[str, str]]) -> None:
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    formatter = click.HelpFormatter(max_width=120)
    formatter.write_dl([line(row) for row in rows], col_max=32)
    print(formatter.getvalue(), end="")


json_option = click.option("--json", "as_json", is_flag=True, help="print one JSON list")


@click.command()
@plugin_option
@json_option
def fields(plugin: tuple[str, ...], as_json: bool) -> None:
    """List the fields of a job and a run, which --set takes, with type, default and meaning."""
    _print(
        field_rows(plugin),
        as_json,
        lambda row: (f"{row['name']}={_as_text(row['default'])}", f"{row['meaning']} [{row['type']}]"),
    )


def _class_line(row: Row) -> tuple[str, str]:
    settings = [f"{name}={_as_text(value)}" for name, value in row["settings"].items()]
    needs = [f"{name}={_quoted(value)}" for name, value in row.get("needs", {}).items()]
    notes = [*(["the default"] if row["default"] else []), *settings, *needs]
    return row["name"], row["meaning"] + (f" ({', '.join(notes)})" if notes else "")


def _quoted(value: Any) -> str:
    return " ".join(map(json.dumps, value)) if isinstance(value, list) else str(value)


@click.command()
@plugin_option
@json_option
def tasks(plugin: tuple[str, ...], as_json: bool) -> None:
    """List what --task takes, with the new tokens, exemplars and stop texts that it gets; or MODULE:CLASS of yours."""
    _print(task_rows(plugin), as_json, _class_line)


@click.command()
@plugin_option
@json_option
def bridges(plugin: tuple[str, ...], as_json: bool) -> None:
    """List what --set bridge=NAME takes; a class of your own is MODULE:CLASS."""
    _print(class_rows(BRIDGES, plugin), as_json, _class_line)


@click.command()
@plugin_option
@json_option
def toggles(plugin: tuple[str, ...], as_json: bool) -> None:
    """List the toggles: field, default, what on and off do, and the column of reports."""
    _print(
        toggle_rows(plugin),
        as_json,
        lambda row: (
            row["key"],
            f"{row['field']}, {row['default']} by default, column '{row['column']}'. "
            f"on: {row['meaning']}; off: {row['without']}. [{row['reference']}]",
        ),
    )


COMMANDS = (fields, tasks, bridges, toggles)
