"""Resolve a checkpoint's name: to the embedded pair, a folder, or a name on the Hugging Face hub."""

from pathlib import Path

from bridge_common.errors import UserError
from bridge_common.paths import path_problem, short

EMBEDDED = {name: Path(__file__).parent.parent / "embedded_pair" / name for name in ("source", "target")}
_PREFIX = "embedded:"
_RANDOM = "random:"


def is_random(name: str) -> bool:
    """Return whether a name asks for a checkpoint's architecture and tokenizer with random weights: `random:NAME`."""
    return name.startswith(_RANDOM)


def random_twin(name: str) -> str:
    """Return the name of a checkpoint's twin with random weights, which is its own."""
    return name if is_random(name) else f"{_RANDOM}{name}"


def trained(name: str) -> str:
    """Return a checkpoint's name without `random:`."""
    return name.removeprefix(_RANDOM)


def resolve(name: str) -> str:
    """Return the folder or hub name of a checkpoint; `embedded:source` and `embedded:target` ship in the package.

    That of `random:NAME` is NAME's: there are its configuration and tokenizer.

    Raises:
        UserError: for an unknown embedded name, a folder without config.json, or a path that does not exist.
    """
    name = trained(name)
    if problem := path_problem(name):
        raise UserError(f"{short(name)} is no checkpoint's name ({problem}): give a folder, or a hub name OWNER/MODEL")
    if name.startswith(_PREFIX):
        part = name.removeprefix(_PREFIX)
        if part not in EMBEDDED:
            known = " and ".join(_PREFIX + known for known in EMBEDDED)
            raise UserError(f"no embedded checkpoint {name!r}: there are {known}")
        return str(EMBEDDED[part])
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UserError(f"{path} holds no config.json: name a folder written by save_pretrained")
        return str(path.resolve())
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise UserError(f"no checkpoint at {name}: give a folder written by save_pretrained, or a hub name OWNER/MODEL")
    return name
