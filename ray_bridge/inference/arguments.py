"""Check what the Python API is given, so that a wrong type is one line and not a traceback from deep inside."""

import math
from collections.abc import Collection, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from bridge_common.metric_names import CONDITIONS
from ray_bridge.config.plugins import check_plugin_name
from ray_bridge.inference.answers import Decoding, Question
from ray_bridge.inference.places import HOTTEST, check_unicode
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.task import Example


def check_place(place: Any) -> str | Path:
    """Return the place of a translator.

    Raises:
        UserError: if it is neither a text nor a path.
    """
    if isinstance(place, str | Path) and str(place):
        return place
    raise UserError(f"{shown(place)} is no place of a translator: give a folder, or a name on the hub")


def check_model(role: str, model: Any) -> FrozenLM | str | Path | None:
    """Return a model that was given for a role, "source" or "target".

    Raises:
        UserError: if it is neither a name, a path nor a loaded model.
    """
    if model is None or isinstance(model, FrozenLM) or (isinstance(model, str | Path) and str(model)):
        return model
    raise UserError(f"{role}={shown(model)}: give a folder, a name on the hub, or a FrozenLM as {role}.pair.{role} is")


def check_plugins(plugins: Any) -> Collection[str]:
    """Return the names of trusted modules.

    Raises:
        UserError: if they are no collection of modules' names; a single text is none.
    """
    listed = isinstance(plugins, Collection) and not isinstance(plugins, str | bytes)
    if listed and all(isinstance(name, str) for name in plugins):
        for name in plugins:
            check_plugin_name(name)
        return plugins
    raise UserError(f'plugins={shown(plugins)}: give a tuple of modules, as in ("my_plugin",)')


def check_text(name: str, text: Any) -> str | None:
    """Return a text that may be left out.

    Raises:
        UserError: if it is something else, or no valid Unicode.
    """
    if isinstance(text, str):
        check_unicode(name, text)
    if text is None or isinstance(text, str):
        return text
    raise UserError(f"{name}={shown(text)}: give a text")


def check_conditions(conditions: Any) -> Sequence[str] | None:
    """Return the conditions to compare; None for all.

    Raises:
        UserError: if they are no list of texts.
    """
    if conditions is None:
        return None
    if isinstance(conditions, str):
        raise UserError(f"conditions={shown(conditions)}: give a list, as in [{conditions!r}]")
    if not (_is_list(conditions) and conditions and all(isinstance(name, str) for name in conditions)):
        raise UserError(f"conditions={shown(conditions)}: give some of {', '.join(CONDITIONS)}, or leave it out")
    return list(conditions)


def listed_questions(questions: Any) -> list[Question]:
    """Return one question, or several, as a list.

    Raises:
        UserError: if one is neither a text nor an example of the task.
    """
    if isinstance(questions, str | Example):
        return [questions]
    if not isinstance(questions, Sequence) or isinstance(questions, bytes):
        raise UserError(f"{shown(questions)} is no question: give a text, or a list of texts")
    for question in questions:
        if not isinstance(question, str | Example):
            raise UserError(f"{shown(question)} is no question: give a text, or an Example of the task")
    return list(questions)


def check_decoding(settings: Decoding, max_new_tokens: int, count: int) -> Decoding:
    """Return settings with their defaults, and with a seed and an id for each question.

    Args:
        settings: as they were given.
        max_new_tokens: the job's.
        count: how many questions there are.

    Raises:
        UserError: if one of them is unknown or impossible.
    """
    defaults: Decoding = {
        "temperature": 0.0,
        "seed": 0,
        "max_new_tokens": max_new_tokens,
        "batch_size": 32,
        "ids": None,
    }
    if unknown := settings.keys() - defaults.keys():
        raise UserError(f"unknown setting {', '.join(sorted(unknown))}: there are {', '.join(defaults)}")
    decoding: Decoding = {**defaults, **settings}
    for name in ("max_new_tokens", "batch_size"):
        check_count(name, decoding[name])
    heat = decoding["temperature"]
    if not isinstance(heat, Real) or isinstance(heat, bool) or not (0 <= heat <= HOTTEST and math.isfinite(heat)):
        raise UserError(f"temperature={shown(heat)}: 0 for greedy decoding, or a number up to {HOTTEST:g}")
    decoding["seed"] = _seeds(decoding["seed"], count)
    decoding["ids"] = _ids(decoding["ids"], count)
    return decoding


def check_count(name: str, value: Any) -> None:
    """Refuse what is no whole number from 1 on.

    Raises:
        UserError: naming the argument and its value.
    """
    if not _is_whole(value) or value < 1:
        raise UserError(f"{name}={shown(value)}: at least 1, a whole number")


def _seeds(seed: Any, count: int) -> list[int]:
    seeds = [seed] * count if _is_whole(seed) else seed
    if not _is_list(seeds) or not all(_is_whole(one) for one in seeds):
        raise UserError(f"seed={shown(seed)}: give a whole number, or one for each question")
    if len(seeds) != count:
        raise UserError(f"{len(seeds)} seeds for {count} questions: give one for all, or one for each")
    return list(seeds)


def _ids(ids: Any, count: int) -> list[str | None]:
    if ids is None:
        return [None] * count
    if not _is_list(ids) or not all(one is None or (isinstance(one, str) and one) for one in ids):
        raise UserError(f"ids={shown(ids)}: give a list with a text for each question, None where it has no id")
    if len(ids) != count:
        raise UserError(f"{len(ids)} ids for {count} questions: give one for each")
    return list(ids)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def shown(value: Any) -> str:
    """Return a value as a message shows it, on one line and not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
