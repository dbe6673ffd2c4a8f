"""Start a server, wait until it is to end, and release everything that it held."""

import io
import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from types import FrameType
from typing import Any

from bridge_common.errors import UserError
from cluster.serving.settings import ServerSettings
from ray_bridge.inference.places import folder_of

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _EndedError(BaseException):
    """A signal asks the process to end. Not an Exception, so that nothing on the way takes it for a failure."""


def run_server(settings: ServerSettings, echo: Callable[[str], None]) -> int:
    """Serve a translator until SIGINT or SIGTERM; return the exit code.

    Joins the Ray cluster at `$RAY_ADDRESS`, or starts a local one and ends it.

    Args:
        settings: the server's.
        echo: prints a line.

    Raises:
        UserError: if the translator cannot be loaded, or Ray not be reached.
    """
    settings.check()
    from tune_spaces.ray_tune.connect import cluster_address, connected
    from tune_spaces.ray_tune.nodes import require_ray_can_start

    here = cluster_address() is None
    if here:
        _check_here(settings)
    folder_of(settings.place)  # what is no translator's folder is refused before Ray starts
    if here:
        require_ray_can_start()

    ended = False
    with _signals(), ExitStack() as silence:
        try:
            with connected(dashboard=False):  # a server needs none, and Ray starts sooner without
                _serve(settings, echo, silence)
        except (_EndedError, SystemExit):  # while Ray starts, its own handler of SIGTERM exits
            ended = True
    if ended:
        echo("ended")
    return 0


def _check_here(settings: ServerSettings) -> None:
    """Refuse models that are not on this machine, and replicas for which it has no room: Ray would wait for ever.

    Raises:
        UserError: with what is missing.
    """
    from ray_bridge.config.checkpoint_names import resolve
    from tune_spaces.ray_tune.nodes import local_gpus

    for option, model in (("--source", settings.source), ("--target", settings.target)):
        try:
            if model is not None:
                resolve(model)
        except UserError as error:
            raise UserError(f"{option}: {error}") from error
    replicas = 1 if settings.autoscaling else settings.replicas
    wanted = {
        "--cpus": ("CPU cores", settings.cpus, os.cpu_count() or 1),
        "--gpus": ("GPUs", settings.gpus or 0, local_gpus()),
    }
    for option, (things, each, there) in wanted.items():
        if replicas * each > there:
            count = f"{replicas} replicas" if replicas > 1 else "a replica"
            raise UserError(
                f"{option} {each:g}: {count} would take {replicas * each:g} {things}, and this machine has {there}; "
                "ask for less, or for a cluster set RAY_ADDRESS"
            )


def _room_note(settings: ServerSettings, gpus: float) -> str | None:
    """Return a line if no node of the cluster is large enough for a replica; None if one is."""
    import ray

    wanted = {"CPU": settings.cpus, "GPU": gpus}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
        return None
    room = " and ".join(f"{amount:g} {name}s" for name, amount in wanted.items() if amount)
    return f"note: no node has {room}: waiting for one, as an autoscaling cluster makes it; Ctrl-C ends this"


def _serve(settings: ServerSettings, echo: Callable[[str], None], silence: ExitStack) -> None:
    """Start Ray Serve, wait for a signal, and end it; `silence` is entered for the end."""
    from ray import serve

    signal.signal(signal.SIGTERM, _end)  # Ray has set a handler of its own
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if _serve_runs():
        raise UserError("Ray Serve runs on this cluster already: end it by `serve shutdown`, or use another cluster")
    try:
        _deploy(settings, echo)
        echo(f"{settings.name} answers at {settings.url}, for OpenAI's clients at {settings.url}/v1; Ctrl-C ends it")
        threading.Event().wait()
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # what ends here is not to be interrupted halfway
        # Ray prints that the call which ends Serve's controller was cut off by the controller's end.
        silence.enter_context(redirect_stdout(io.StringIO()))
        with suppress(Exception):
            serve.shutdown()


def _deploy(settings: ServerSettings, echo: Callable[[str], None]) -> None:
    import ray
    from ray import serve

    from cluster.serving.client import APP, MODEL
    from cluster.serving.deployment import application

    gpus = (1.0 if ray.cluster_resources().get("GPU") else 0.0) if settings.gpus is None else settings.gpus
    if note := _room_note(settings, gpus):
        echo(note)
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": settings.host, "port": settings.port},
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    try:
        serve.run(application(settings, gpus), name=APP, route_prefix="/")
    except RuntimeError as error:
        message = serve.status().applications[APP].deployments[MODEL].message
        raise UserError(_reason(message) or f"the server did not start: {str(error).splitlines()[0]}") from error


def _reason(message: str) -> str | None:
    """Return the line of the UserError in a traceback; None if another error ended the process."""
    match = re.search(r"^(?:\w+\.)*(?:UserError|TooLongError): (.+)$", message, flags=re.MULTILINE)
    return match[1] if match else None


def _serve_runs() -> bool:
    import ray
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    with suppress(ValueError):
        ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
        return True
    return False


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _EndedError


@contextmanager
def _signals() -> Iterator[None]:
    """Raise `_EndedError` in the main thread on SIGINT and SIGTERM while the body runs."""
    before: dict[int, Any] = {number: signal.signal(number, _end) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
