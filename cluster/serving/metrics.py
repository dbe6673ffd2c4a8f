"""What the server counts, for Prometheus. Ray Serve exports its own metrics through Ray besides."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cluster.serving.errors import ApiError
from cluster.serving.exchange import Reply

SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)
OTHER = "other"
"""In place of a path that takes no questions, so that strangers cannot add labels without end."""
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counts of one server.

    Args:
        begun: returns how many questions replicas were given so far.
        paths: those that take questions.
    """

    def __init__(self, begun: Callable[[], float], paths: Collection[str]) -> None:
        self.registry, self.paths = CollectorRegistry(), frozenset(paths)
        self.requests = self._counter("requests", "requests by path and status", ["path", "status"])
        self.tokens = self._counter("generated_tokens", "tokens of answers", [])
        self.read = self._counter("prompt_tokens", "positions that the target read", [])
        self.open = Gauge("ray_bridge_open_requests", "requests in progress", registry=self.registry)
        given = Gauge("ray_bridge_begun_questions", "questions that a replica was given", registry=self.registry)
        given.set_function(begun)
        self.seconds = self._histogram("request_seconds", "seconds of a request, streams to their end", SECONDS)
        self.first = self._histogram("first_text_seconds", "seconds to the first text of a stream", SECONDS)
        self.together = self._histogram("batch_questions", "questions decoded together, by question", SIZES)

    @contextmanager
    def request(self, path: str) -> Iterator[None]:
        """Count a request by how the block ends, with its seconds."""
        began, status = time.perf_counter(), "500"
        with self.open.track_inprogress():
            try:
                yield
                status = "200"
            except ApiError as error:
                status = str(error.status)
                raise
            except (GeneratorExit, asyncio.CancelledError):
                status = "499"  # the client left
                raise
            finally:
                self.requests.labels(path, status).inc()
                self.seconds.observe(time.perf_counter() - began)

    def refused(self, path: str, status: int) -> None:
        """Count a request that reached no endpoint; one label holds all paths that take no questions."""
        self.requests.labels(path if path in self.paths else OTHER, str(status)).inc()

    def answered(self, reply: Reply) -> None:
        """Count an answer that is complete."""
        if reply.answer is not None:
            self.tokens.inc(reply.answer.tokens)
            self.read.inc(reply.prompt_tokens)
            self.together.observe(reply.together)

    def text(self) -> bytes:
        """Return all counts in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, meaning: str, labels: list[str]) -> Counter:
        return Counter(f"ray_bridge_{name}", meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"ray_bridge_{name}", meaning, buckets=buckets, registry=self.registry)
