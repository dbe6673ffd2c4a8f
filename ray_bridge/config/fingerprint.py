"""A name for an experiment that is the same wherever it runs, so that nothing finished is ever run again.

The fingerprint covers the fields of the `JobSpec` and the *content* of the files it names: a checkpoint that moved
keeps its fingerprint, one that was retrained in place gets another.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from ray_bridge.config.checkpoint_names import resolve
from ray_bridge.config.plugins import import_plugin, source_of
from ray_bridge.config.spec import JobSpec

_WHOLE = 1 << 22  # files up to this size are hashed whole
_SAMPLE = 1 << 16  # larger ones at their start, middle and end
_WORDS = {None: "null", True: "true", False: "false"}
_quoted = json.encoder.encode_basestring_ascii  # what json.dumps does to text, at a tenth of its cost a call


def canonical(value: Any) -> str:
    """One string for a value, the same on every machine and in every process.

    Raises:
        TypeError: for values without a stable form (sets, objects, NaN): their text may differ between processes.
    """
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool):
        return _WORDS[value]
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
    """Hexadecimal digest of a value's canonical form."""
    return hashlib.blake2b(canonical(value).encode(), digest_size=length // 2).hexdigest()


def folder_digest(folder: Path) -> str:
    """Digest of a folder's files: names, sizes and contents (of large files three samples, as weights differ anywhere).

    A trained checkpoint differs from its ancestor all over, so start, middle and end of a weight file suffice; reading
    16 GB on every plan would not.
    """
    files = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and _counts(p.relative_to(folder))):
        size = path.stat().st_size
        content = hashlib.blake2b(digest_size=16)
        with path.open("rb") as file:
            if size <= _WHOLE:
                content.update(file.read())
            else:
                for start in (0, size // 2, size - _SAMPLE):
                    file.seek(start)
                    content.update(file.read(_SAMPLE))
        files.append([path.relative_to(folder).as_posix(), size, content.hexdigest()])
    return digest(files)


def fingerprint(spec: JobSpec, contents: dict[str, str] | None = None) -> str:
    """Sixteen hexadecimal digits that identify what `spec` measures.

    Args:
        spec: what is measured.
        contents: digests of folders read so far, kept by a caller that names thousands of specs on the same files.
    """
    contents = {} if contents is None else contents
    fields = spec.flat()
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


def _counts(path: Path) -> bool:
    return not path.name.startswith(".") and "__pycache__" not in path.parts


def _source(module: str, contents: dict[str, str]) -> str:
    """Return a plug-in's content, whatever its name and place: its file, or all files of a package."""
    key = f"module {module}"
    if key not in contents:
        place = source_of(import_plugin(module))
        if place.is_dir():
            contents[key] = f"content:{folder_digest(place)}"
        else:
            contents[key] = f"content:{hashlib.blake2b(place.read_bytes(), digest_size=8).hexdigest()}"
    return contents[key]


def _data(folder: str, contents: dict[str, str]) -> str:
    key = f"data {folder}"
    if key not in contents:
        contents[key] = f"content:{folder_digest(Path(folder))}"
    return contents[key]


def _content(checkpoint: str, contents: dict[str, str]) -> str:
    if checkpoint not in contents:
        place = Path(resolve(checkpoint))
        contents[checkpoint] = f"content:{folder_digest(place)}" if place.is_dir() else checkpoint
    return contents[checkpoint]
