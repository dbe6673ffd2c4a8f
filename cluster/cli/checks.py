"""Check every path, name, number and address that a command line gives, before anything heavy is loaded.

Each is a type of click's, so that click names the option in its message: one line, exit code 2.
"""

import importlib
import os
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

import click

from bridge_common.errors import UserError, reason_of
from bridge_common.paths import path_problem, short, text_problem
from bridge_common.user_files import special_kind
from bridge_common.web import has_password, is_web_address
from cluster.variables import NOTIFY


class Elsewhere:
    """Object of a click context whose paths are those of another machine: only their text is checked."""


class FolderType(click.ParamType):
    """A folder.

    Args:
        exists: refuse a folder that is not there, if it was named on the command line.
    """

    name = "path"

    def __init__(self, *, exists: bool = False) -> None:
        self.exists = exists

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        if problem := path_problem(os.fspath(value)):
            self.fail(f"{problem}: name a folder", param, ctx)
        path = Path(value)
        if _elsewhere(ctx):
            return path
        at = path.expanduser()
        try:
            file = _first_file(at, *at.parents)
            missing = self.exists and _named(param, ctx) and not at.exists()
            with suppress(FileNotFoundError, NotADirectoryError):
                at.stat()  # which `exists` does not say of symbolic links that lead to one another
        except OSError as error:
            self.fail(f"{path}: {error.strerror}", param, ctx)
        if file is not None:
            self.fail(f"{file} is a file: name a folder", param, ctx)
        if missing:
            self.fail(f"there is no folder {path}", param, ctx)
        return path


class FileType(click.ParamType):
    """A file that is read or written; the command that reads it says why it cannot."""

    name = "path"

    def __init__(self, *, written: bool = False) -> None:
        self.written = written

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        if problem := path_problem(os.fspath(value)):
            self.fail(f"{problem}: name a file", param, ctx)
        path = Path(value)
        if self.written and not _elsewhere(ctx):
            at = path.expanduser()
            if at.is_symlink():  # the file that it leads to is replaced, not the link, which may be /dev/stdout
                path = at = Path(os.path.realpath(at))
            if kind := special_kind(at):
                self.fail(f"{path} is {kind}: name a file", param, ctx)
            file = _first_file(*at.parents)
            if file is not None:
                self.fail(f"{file} is a file: name another folder", param, ctx)
        return path


class TextType(click.ParamType):
    """A name or an address: not empty, on one line, and not too long.

    Args:
        problem: returns what is wrong with a text, None if nothing is.
    """

    name = "text"

    def __init__(self, problem: Callable[[str], str | None] = text_problem) -> None:
        self.problem = problem

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        if problem := self.problem(str(value)):
            self.fail(problem, param, ctx)
        return str(value)


def address_problem(uri: str) -> str | None:
    """Return why a text cannot be an address, without its letters, which may be a secret; None if it can."""
    problem = text_problem(uri, most=2000)
    return problem and problem.replace(short(uri), "the address")


def without_password(uri: str) -> str | None:
    """Return why an address cannot be recorded; None if it can."""
    if problem := address_problem(uri):
        return problem
    if uri.startswith("http") and uri.partition("?")[2]:
        return "it has a query, which the campaign's records and command lines would show: leave it out"
    if not has_password(uri):
        return None
    instead = "PGPASSWORD" if uri.startswith("postgresql") else "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    return f"it has a password, which the campaign's records and command lines would show: set {instead} instead"


def web_problem(url: str) -> str | None:
    """Return why a text cannot be the address of a server's pages; None if it can."""
    return address_problem(url) or (None if is_web_address(url) else "give http://HOST:PORT or https://HOST/PATH")


class AddressOfNotices(TextType):
    """An address that notices are posted to, without a secret where a command line would show it."""

    def __init__(self) -> None:
        super().__init__(address_problem)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the address."""
        url = super().convert(value, param, ctx)
        if _source(param, ctx) is _COMMAND_LINE and (secret := secret_in(url)):
            self.fail(
                f"it has {secret}, which Ray's dashboard would show with the command line: set {NOTIFY} to the address "
                f"instead, and for a submitted job name it, --env {NOTIFY}",
                param,
                ctx,
            )
        return url


PLAIN = frozenset({"hook", "hooks", "notify", "notices", "webhook", "webhooks"})
"""Words of a path that are no secrets."""


def secret_in(url: str) -> str | None:
    """Return which part of an address may be a secret: user, password, query, or a path of other words than `PLAIN`.

    Of a path nobody can tell: a word of few letters is the whole secret at some services, such as the topic at ntfy.sh.
    """
    place = re.split("[?#]", url, maxsplit=1)[0]
    path = place.partition("://")[2].split("/")
    if "@" in place:
        return "a user or a password"
    if place != url:
        return "a query, where tokens stand"
    if not {part for part in path[1:] if part} <= PLAIN:
        return "a path that may be a secret"
    return None


class NumberType(click.FloatRange):
    """A finite number of a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value} is no number that can be used", param, ctx)
        return float(number)


_COMMAND_LINE = click.core.ParameterSource.COMMANDLINE
FOLDER, KNOWN_FOLDER = FolderType(), FolderType(exists=True)
FILE, NEW_FILE = FileType(), FileType(written=True)
TEXT, URI, MODEL = TextType(), TextType(address_problem), TextType(path_problem)
WEB = TextType(web_problem)
RECORDED_URI = TextType(without_password)
"""An address that a campaign records and that a job's command line shows."""
NOTICES = AddressOfNotices()
PORT = click.IntRange(1, 65535)
SECONDS = NumberType(min=0, min_open=True)


def _first_file(*paths: Path) -> Path | None:
    """Return the first of these paths that exists and is no folder, or None."""
    return next((path for path in paths if path.exists() and not path.is_dir()), None)


def require_writable(folder: Path, option: str = "--storage") -> None:
    """Refuse a folder in which nothing can be written; it is made if it is missing.

    Raises:
        UserError: with the reason.
    """
    at = folder.expanduser()
    try:
        at.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=at):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write into {option} {folder} ({error.strerror or error}): name a folder that you may write"
        ) from error


def require_function(option: str, reference: str) -> Callable[..., Any]:
    """Return the function that MODULE:FUNCTION names.

    Raises:
        UserError: if there is none.
    """
    module, _, function = reference.partition(":")
    try:
        value = getattr(importlib.import_module(module), function) if module and function else None
    except (Exception, SystemExit) as error:  # a script may end the process where it is imported
        raise UserError(f"{option} {reference}: {reason_of(error)}; give MODULE:FUNCTION") from error
    if not callable(value):
        raise UserError(f"{option} {reference}: it is no function; give MODULE:FUNCTION")
    return value


def prepare_output() -> None:
    """Let standard output take names of files that are no UTF-8, as bytes that they were, and each line at once.

    In a file or a pipe lines would wait in a buffer, and an error would stand before what was printed earlier.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            errors = "surrogateescape" if stream is sys.stdout else "backslashreplace"
            stream.reconfigure(errors=errors, line_buffering=True)


def require_meaning(option: str, has_meaning: bool, where: str) -> None:
    """Refuse an option of the command that runs, if its command line names the option where it would change nothing.

    Args:
        option: the option, as `--every`.
        has_meaning: whether it changes something beside the others.
        where: what it goes with, as in `with --watch`.

    Raises:
        UserError: if it is named and has no meaning.
    """
    name = option.lstrip("-").replace("-", "_")
    if not has_meaning and click.get_current_context().get_parameter_source(name) is _COMMAND_LINE:
        raise UserError(f"{option} goes {where}: leave it out")


def _elsewhere(ctx: click.Context | None) -> bool:
    return ctx is not None and ctx.find_object(Elsewhere) is not None


def _named(param: click.Parameter | None, ctx: click.Context | None) -> bool:
    """Return whether a parameter was given on the command line, and is no default."""
    return _source(param, ctx) is not click.core.ParameterSource.DEFAULT


def _source(param: click.Parameter | None, ctx: click.Context | None) -> click.core.ParameterSource | None:
    """Return where a parameter's value comes from: the command line, unless click knows better."""
    known = None if param is None or ctx is None or param.name is None else ctx.get_parameter_source(param.name)
    return known or _COMMAND_LINE
