"""Settings of a server, checked before anything starts."""

import errno
import hashlib
import importlib
import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge_common.errors import UserError
from bridge_common.user_files import read_text

TOKEN_VARIABLE = "ABLATE_SERVE_TOKEN"
SHORTEST_TOKEN = 16
LARGEST_BODY = 1 << 20
"""Bytes of a request's body that are read at most."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much one request may ask for, and how many may wait.

    Attributes:
        question_chars: most characters of a question.
        new_tokens: most tokens of an answer; None for those of the job.
        prompts: most prompts of one request.
        queue: most questions that wait while replicas have two batches each.
    """

    question_chars: int = 8000
    new_tokens: int | None = None
    prompts: int = 64
    queue: int = 128


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """A translator and how it is served.

    Attributes:
        place: a trial's folder, an exported folder or bundle, or a hub name.
        source: the source if it lies elsewhere than at training.
        target: the same for the target.
        plugins: modules that an exported folder may import.
        host: the interface that the server listens on.
        port: its port.
        token: what requests must show; None for a server without one.
        limits: of requests.
        replicas: processes that hold the models, if there is no autoscaling.
        autoscaling: fields of Ray Serve's AutoscalingConfig; empty for a fixed number of replicas.
        cpus: CPU cores of a replica.
        gpus: GPUs of a replica; None for one if the cluster has any.
        batch_size: questions that a replica decodes together.
        batch_wait_ms: how long a batch waits to be filled.
    """

    place: str
    source: str | None = None
    target: str | None = None
    plugins: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    limits: Limits = field(default_factory=Limits)
    replicas: int = 1
    autoscaling: Mapping[str, Any] = field(default_factory=dict)
    cpus: float = 1.0
    gpus: float | None = None
    batch_size: int = 16
    batch_wait_ms: float = 10.0

    @property
    def name(self) -> str:
        """Name of the model in the API: a hub name, or the last part of a folder's."""
        return Path(self.place).expanduser().resolve().name if Path(self.place).expanduser().exists() else self.place

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def most_replicas(self) -> int:
        """Replicas that may run."""
        return int(self.autoscaling.get("max_replicas", 1)) if self.autoscaling else self.replicas

    def check(self) -> None:
        """Refuse settings with which no server can or may be started.

        Raises:
            UserError: if the server would be open to others without a token, or its port is taken.
        """
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise UserError(f"the token has {len(self.token)} characters: take {SHORTEST_TOKEN} or more")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise UserError("the token has characters that a header cannot hold: take printable ASCII without blanks")
        if self.token is None and not is_loopback(self.host):
            raise UserError(
                f"--host {self.host} is open to other machines: set {TOKEN_VARIABLE} or give --token-file, or leave "
                "--host out"
            )
        check_free(self.host, self.port)


def require_packages() -> None:
    """Refuse to go on without the packages of the extra `serve`, which the other commands do not need.

    Raises:
        UserError: if one is missing.
    """
    for name in ("ray.serve", "fastapi", "uvicorn", "prometheus_client"):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise UserError(f"no module {error.name}: pip install 'ray-bridge[serve]'") from error


def read_token(file: Path | None) -> str | None:
    """Return the token from a file or `$ABLATE_SERVE_TOKEN`; None if there is neither.

    It is no option of the command: others on the machine see the arguments of a process.

    Raises:
        UserError: if the file cannot be read, or the token is empty.
    """
    if file is None:
        token, place = os.environ.get(TOKEN_VARIABLE), f"${TOKEN_VARIABLE}"
    else:
        try:
            token, place = read_text(file, pipe=True), str(file)
        except UserError as error:
            raise UserError(f"--token-file: {error}") from error
    if token is not None and not token.strip():
        raise UserError(f"the token in {place} is empty")
    return None if token is None else token.strip()


def token_digest(token: str) -> str:
    """Return what the server keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_loopback(host: str) -> bool:
    """Return whether a host names interfaces that only this machine reaches.

    Raises:
        UserError: if it is no host of this machine.
    """
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in _resolved(host))


def check_free(host: str, port: int) -> None:
    """Refuse an address on which nothing can listen.

    Raises:
        UserError: if the port is taken, or the host is none of this machine.
    """
    resolved = _resolved(host)
    errors = [
        error
        for family, kind, _, _, address in resolved
        if (error := _bind_error(family, kind, (address[0], port))) is not None
    ]
    # A name such as localhost may have an address of IPv6 on a machine without it.
    if len(errors) == len(resolved) or any(error.errno != errno.EADDRNOTAVAIL for error in errors):
        reason = errors[0].strerror
        raise UserError(f"cannot listen on port {port} of {host} ({reason}): choose others by --host and --port")


def _bind_error(family: int, kind: int, address: tuple[str, int]) -> OSError | None:
    try:
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


def _resolved(host: str) -> list[Any]:
    try:
        return socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UserError(f"--host {host}: {error.strerror or error}") from error


def parse_autoscaling(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Parse `name=value` settings of Ray Serve's autoscaling and check them by Ray Serve itself.

    Raises:
        UserError: if one has no `=`, or Ray Serve refuses it.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name.strip():
            raise UserError(f"--autoscale {pair}: give name=value, as in --autoscale max_replicas=4")
        settings[name.strip()] = value.strip()
    if settings:
        from pydantic import ValidationError
        from ray.serve.config import AutoscalingConfig

        if unknown := settings.keys() - AutoscalingConfig.model_fields.keys():
            known = ", ".join(sorted(AutoscalingConfig.model_fields.keys()))
            raise UserError(f"--autoscale {sorted(unknown)[0]}: Ray Serve has no such setting, but {known}")
        try:
            checked = AutoscalingConfig(**settings)
        except (ValidationError, ValueError) as error:
            first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise UserError(f"--autoscale {' '.join(pairs)}: {' '.join(first.split())}") from error
        settings = {name: getattr(checked, name) for name in settings}
    return settings
