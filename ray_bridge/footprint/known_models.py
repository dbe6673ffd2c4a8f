"""Sizes of models whose configuration is not on this machine: of well-known ones by name, of others by their size."""

import re
from dataclasses import replace
from functools import cache
from importlib.resources import files
from json import loads

from ray_bridge.config.checkpoint_names import trained
from ray_bridge.footprint.model_shape import ModelShape, read_shape

_BILLIONS = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)[bB](?![a-zA-Z0-9])")
STANDARD = "meta-llama/Llama-3.1-8B-Instruct"


def find_shape(name: str, revision: str | None = None) -> tuple[ModelShape, str | None]:
    """Return a model's sizes, and in a few words what was assumed of it: None if its configuration is here or known.

    Args:
        name: a folder, a hub name, or `embedded:source` / `embedded:target`.
        revision: of a hub name.
    """
    if (shape := read_shape(name, revision)) is not None:
        return shape, None
    if (shape := known_shape(name)) is not None:
        return shape, None
    standard = _known()[STANDARD]
    found = _BILLIONS.search(name.replace("-", " ").replace("_", " ").replace("/", " "))
    if found is None:
        return replace(standard, name=name), f"{name} is taken to be of the size of {STANDARD}"
    layer = (standard.parameters - 2 * standard.vocabulary * standard.hidden) / standard.layers
    # Width grows with the cube root of a model's size, and so does depth, as in the families that publish several.
    scale = (float(found[1]) * 1e9 / (layer * standard.layers)) ** (1 / 3)
    hidden = max(1, round(standard.hidden * scale / standard.head_dim)) * standard.head_dim
    shape = replace(
        standard,
        name=name,
        hidden=hidden,
        heads=hidden // standard.head_dim,
        layers=max(1, round(standard.layers * scale)),
        intermediate=round(standard.intermediate * scale),
    )
    return replace(shape, parameters=shape.computed_parameters(tied=False)), f"{name} is assumed to be Llama-like"


def known_shape(name: str) -> ModelShape | None:
    """Return the sizes of a well-known model, by its exact name or `random:` before it; None of any other."""
    return _known().get(trained(name))


@cache
def _known() -> dict[str, ModelShape]:
    content = loads(files("ray_bridge.footprint").joinpath("known_models.json").read_text(encoding="utf-8"))
    shapes = {}
    for name, sizes in content["models"].items():
        shape = ModelShape(name=name, parameters=0, **sizes)
        shapes[name] = replace(shape, parameters=shape.computed_parameters(tied=False))
    return shapes
