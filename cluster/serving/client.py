"""Ask the replicas through Ray Serve, and say in the API's terms what goes wrong."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from cluster.serving.errors import ApiError, too_long, unavailable
from cluster.serving.exchange import Answered, Ask, Facts, Reply
from cluster.serving.queue import QuestionQueue

APP, MODEL = "translator", "Model"
"""Names of the application and of the replicas' deployment in Ray Serve."""
ATTEMPTS = 3
"""Of a question whose replica ended before it answered: an answer depends on the question alone, so it can be asked
again."""
HEALTH_KEPT_S = 1.0


class ModelClient:
    """The replicas, as the API sees them.

    Args:
        handle: of the deployment.
        queue: of the questions, whose places `answer`, `stream` and `compare` take.
    """

    def __init__(self, handle: DeploymentHandle, queue: QuestionQueue) -> None:
        self.handle, self.queue = handle, queue
        self._facts: Facts | None = None
        self._health = (0.0, False)

    async def facts(self) -> Facts:
        """Describe the translator; asked once."""
        if self._facts is None:
            self._facts = await self._ask(self.handle.facts.remote)
        return self._facts

    async def answer(self, ask: Ask) -> Reply:
        """Return the answer to a question.

        Raises:
            ApiError: if it cannot be answered.
        """
        async with self.queue.place():
            return _checked(await self._ask(lambda: self.handle.answer.remote(ask)))

    async def stream(self, ask: Ask) -> AsyncIterator[Reply]:
        """Yield an answer in pieces. The first reply has no text: it comes once the question is accepted.

        Raises:
            ApiError: as `answer` does, before the first reply; later only if the replica ends.
        """
        async with self.queue.place():
            pieces = self.handle.options(stream=True).stream.remote(ask)
            try:
                async for reply in pieces:
                    yield _checked(reply)
            except (RayActorError, DeploymentUnavailableError) as error:
                raise unavailable() from error
            finally:
                pieces.cancel()  # of an answer that nobody reads any longer; nothing for a complete one

    async def compare(self, question: str, conditions: list[str] | None) -> dict[str, Answered]:
        """Return a question's answers by condition.

        Raises:
            ApiError: as `answer` does.
        """
        async with self.queue.place():
            answers = await self._ask(lambda: self.handle.compare.remote(question, conditions))
        if isinstance(answers, Reply):
            _checked(answers)
        return answers

    async def healthy(self) -> bool:
        """Return whether a replica runs, as Ray Serve last saw it; asked once a second at most."""
        asked, health = self._health
        if time.monotonic() - asked > HEALTH_KEPT_S:
            health = await asyncio.to_thread(_has_replica)
            self._health = (time.monotonic(), health)
        return health

    async def _ask(self, call: Callable[[], DeploymentResponse[Any]]) -> Any:
        for attempt in range(ATTEMPTS):
            response = call()
            try:
                return await response
            except asyncio.CancelledError:
                response.cancel()  # else the replica would answer it for nobody
                raise
            except (RayActorError, DeploymentUnavailableError) as error:
                if attempt + 1 == ATTEMPTS:
                    raise unavailable() from error
        raise AssertionError


def _checked(reply: Reply) -> Reply:
    if reply.problem is None:
        return reply
    if reply.too_long:
        raise too_long(reply.problem)
    raise ApiError(400, reply.problem, "invalid_question")


def _has_replica() -> bool:
    application = serve.status().applications.get(APP)
    deployment = None if application is None else application.deployments.get(MODEL)
    return deployment is not None and deployment.replica_states.get("RUNNING", 0) > 0
