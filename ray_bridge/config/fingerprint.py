"""Fingerprint a job: a name that is the same wherever the job runs, so that a finished job is never run again.

It covers the fields of the `JobSpec` and the *content* of the files that they name: a checkpoint keeps its fingerprint
when it is moved, and gets another when it is retrained in place.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray_bridge.config.checkpoint_names import is_random, random_twin, resolve
from ray_bridge.config.folder_digest import file_digests
from ray_bridge.config.plugins import import_plugin, named_modules, source_of
from ray_bridge.config.spec import JobSpec

_IMPLIED: dict[str, Any] = {
    **{"stops": None, "prompt_format": "raw", "gate_init": 0.0, "latent_steps": 0},
    **{"target_precision": "full", "batch_invariant": False},
}
"""Fields that were added later, with the value that every earlier spec had: with it they do not count."""

_PLACEMENT = ("target_shards",)
"""Fields that say where a job computes, and change its result by the rounding of sums alone: they never count."""
_BESIDE = ("text_budgets",)
"""Fields that add baselines without a bridge to the final evaluation, and change no other number: they never count."""
_CONSTANTS = {None: "null", True: "true", False: "false"}
_quoted = json.encoder.encode_basestring_ascii  # what json.dumps does to text, at a tenth of its cost a call


def canonical(value: Any) -> str:
    """Return one string for a value, the same on every machine and in every process.

    Raises:
        TypeError: for sets, objects and NaN, whose text may differ between processes.
    """
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool):
        return _CONSTANTS[value]
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value!r} has no stable form")
        return float.__repr__(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("only text keys have a stable order")
        return "{" + ",".join(f"{_quoted(key)}:{canonical(value[key])}" for key in sorted(value)) + "}"
    raise TypeError(f"a {type(value).__name__} has no stable form: use numbers, text, lists or dictionaries")


def digest(value: Any, length: int = 16) -> str:
    """Return the hexadecimal digest, of `length` digits, of a value's canonical form."""
    return hashlib.blake2b(canonical(value).encode(), digest_size=length // 2).hexdigest()


def folder_digest(folder: Path, *, whole: bool = False) -> str:
    """Return a digest of a folder's files: names, sizes, contents; of large weights samples unless `whole`."""
    return digest(file_digests(folder, whole=whole))


def fingerprint(spec: JobSpec, contents: dict[str, str] | None = None) -> str:
    """Return sixteen hexadecimal digits that identify what a spec trains and measures.

    Args:
        spec: the job.
        contents: digests of folders read so far, for a caller with thousands of specs on the same files; is added to.

    Raises:
        UserError: if a checkpoint or a plug-in does not exist.
    """
    contents = {} if contents is None else contents
    fields = {name: value for name, value in spec.flat().items() if name not in _IMPLIED or value != _IMPLIED[name]}
    fields = {name: value for name, value in fields.items() if name not in (*_PLACEMENT, *_BESIDE)}
    for name in ("task", "bridge"):
        module, colon, attribute = fields[name].partition(":")
        if colon:
            fields[name] = f"{_source(module, contents)}:{attribute}"
    if "plugins" in fields:
        fields["plugins"] = sorted(_source(module, contents) for module in fields["plugins"])
    for name in ("source", "target"):
        fields[name] = _content(fields[name], contents)
    if fields["task_data"] is not None:
        fields["task_data"] = _data(fields["task_data"], contents)
    return digest(fields)


def plugin_contents(record: Mapping[str, Any]) -> dict[str, str]:
    """Return by name a digest of the source of each module that the record of a spec names.

    Raises:
        UserError: if one cannot be imported, or has no source.
    """
    return {module: _source(module, {}) for module in named_modules(record)}


def _source(module: str, contents: dict[str, str]) -> str:
    """Return a plug-in's content, whatever its name and place: its file, or all files of a package."""
    key = f"module {module}"
    if key not in contents:
        place = source_of(import_plugin(module))
        if place.is_dir():
            contents[key] = f"content:{folder_digest(place, whole=True)}"
        else:
            contents[key] = f"content:{hashlib.blake2b(place.read_bytes(), digest_size=8).hexdigest()}"
    return contents[key]


def _data(folder: str, contents: dict[str, str]) -> str:
    key = f"data {folder}"
    if key not in contents:
        contents[key] = f"content:{folder_digest(Path(folder), whole=True)}"
    return contents[key]


def _content(checkpoint: str, contents: dict[str, str]) -> str:
    if checkpoint not in contents:
        place = Path(resolve(checkpoint))
        content = f"content:{folder_digest(place)}" if place.is_dir() else checkpoint
        contents[checkpoint] = random_twin(content) if is_random(checkpoint) else content
    return contents[checkpoint]
