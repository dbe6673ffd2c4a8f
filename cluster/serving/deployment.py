"""The two deployments: replicas that hold the models, and one process without models that serves HTTP."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from cluster.serving.api import make_app
from cluster.serving.client import MODEL, ModelClient
from cluster.serving.guard import App
from cluster.serving.model import Model
from cluster.serving.queue import QuestionQueue
from cluster.serving.settings import Limits, ServerSettings, token_digest

LONGEST_BACKOFF_S = 0.05
GRACE_S = 5.0
"""How long answers in progress may take when the server is stopped."""


class _Front:
    """The process that speaks HTTP. It is one, so that queue and counts are the whole server's."""

    def __init__(self, model: DeploymentHandle, name: str, limits: Limits, at_once: int, digest: str | None) -> None:
        self._model, self._name, self._limits, self._at_once, self._digest = model, name, limits, at_once, digest

    def __serve_build_asgi_app__(self) -> App:
        queue = QuestionQueue(self._at_once, self._limits.queue)
        return make_app(ModelClient(self._model, queue), self._name, self._limits, self._digest)


def application(settings: ServerSettings, gpus: float) -> Any:
    """Return the application that Ray Serve runs.

    Args:
        settings: the server's.
        gpus: GPUs of a replica, 0 for the CPU.
    """
    scaling: dict[str, Any] = {"num_replicas": settings.replicas}
    if settings.autoscaling:
        scaling = {"autoscaling_config": dict(settings.autoscaling)}
    # Replicas have a working directory of their own, and need no token.
    at_once = 2 * settings.batch_size  # a batch that is decoded, and the next one
    places: dict[str, Any] = {name: _absolute(getattr(settings, name)) for name in ("place", "source", "target")}
    model = serve.deployment(
        Model,
        name=MODEL,
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": gpus},
        max_ongoing_requests=at_once,
        # Questions wait in the front's queue; here only while fewer replicas run than there may be.
        request_router_config=RequestRouterConfig(max_backoff_s=LONGEST_BACKOFF_S),
        max_constructor_retry_count=1,  # what the first try did not find, the next does not either
        graceful_shutdown_timeout_s=GRACE_S,
        graceful_shutdown_wait_loop_s=0.2,
        **scaling,
    ).bind(replace(settings, token=None, **places), "cuda" if gpus else "cpu")
    front = serve.deployment(
        serve.ingress()(_Front),
        name="Front",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=100_000,  # the queue is the model's, which says when it is full
        graceful_shutdown_timeout_s=GRACE_S,
        graceful_shutdown_wait_loop_s=0.2,
        logging_config={"enable_access_log": False},
    )
    digest = None if settings.token is None else token_digest(settings.token)
    return front.bind(model, settings.name, settings.limits, at_once * settings.most_replicas, digest)


def _absolute(place: str | None) -> str | None:
    """Return a folder's absolute path; a hub name, or None, as it is."""
    if place is None or not Path(place).expanduser().exists():
        return place
    return str(Path(place).expanduser().resolve())
