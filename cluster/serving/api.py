"""The HTTP API: OpenAI's completions and chat completions, a comparison of conditions, health, metrics and the page."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST

from bridge_common.metric_names import CONDITIONS
from cluster.serving import responses
from cluster.serving.asked import ChatCompletion, Comparison, Completion, Sampled
from cluster.serving.client import ModelClient
from cluster.serving.errors import ApiError, short, too_long
from cluster.serving.exchange import Ask, Reply
from cluster.serving.guard import App, Guard
from cluster.serving.metrics import Metrics
from cluster.serving.page import HEADERS, PAGE
from cluster.serving.queue import QuestionQueue
from cluster.serving.refusals import add_handlers
from cluster.serving.responses import Form
from cluster.serving.settings import Limits

QUESTION_PATHS = COMPLETIONS, CHAT, COMPARE = "/v1/completions", "/v1/chat/completions", "/compare"


def make_app(model: ModelClient, name: str, limits: Limits, token_digest: str | None) -> App:
    """Return the ASGI application of a server.

    Args:
        model: answers.
        name: of the model in the API.
        limits: of requests.
        token_digest: of the token that requests must show; None for a server without one.
    """
    # Without FastAPI's pages of documentation, which load scripts from the network; /openapi.json stays.
    app = FastAPI(title="ray-bridge", docs_url=None, redoc_url=None)
    api = Api(model, name, limits)
    add_handlers(app, api.metrics)
    app.get("/", response_class=HTMLResponse)(_page)
    reads: dict[str, Callable[..., Any]] = {
        "/health": api.health,
        "/metrics": api.metrics_text,
        "/v1/models": api.models,
        "/v1/models/{model:path}": api.one_model,
    }
    questions: dict[str, Callable[..., Any]] = {
        COMPLETIONS: api.completions,
        CHAT: api.chat_completions,
        COMPARE: api.compare,
    }
    for path, endpoint in reads.items():
        app.get(path, response_model=None)(endpoint)
    for path, endpoint in questions.items():
        app.post(path, response_model=None)(endpoint)
    return Guard(app, token_digest, api.metrics.refused)


class Api:
    """The endpoints.

    Args:
        model: answers.
        name: of the model in the API.
        limits: of requests.
    """

    def __init__(self, model: ModelClient, name: str, limits: Limits) -> None:
        self.model, self.name, self.limits = model, name, limits
        self.queue: QuestionQueue = model.queue
        self.most_prompts = min(limits.prompts, self.queue.most)
        self.metrics, self.started = Metrics(lambda: self.queue.begun, QUESTION_PATHS), int(time.time())

    async def health(self) -> Response:
        """Say whether a replica runs."""
        healthy = await self.model.healthy()
        return JSONResponse({"status": "ok" if healthy else "no replica runs"}, 200 if healthy else 503)

    async def metrics_text(self) -> Response:
        """Return the server's counts for Prometheus."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def models(self) -> dict[str, Any]:
        """List the translator."""
        return {"object": "list", "data": [await self._model()]}

    async def one_model(self, model: str) -> dict[str, Any]:
        """Describe the translator."""
        self._check_model(model)
        return await self._model()

    async def completions(self, body: Completion) -> Response | dict[str, Any]:
        """Answer one question or several."""
        return await self._answer(COMPLETIONS, body, body.questions, body.new_tokens, responses.completion)

    async def chat_completions(self, body: ChatCompletion) -> Response | dict[str, Any]:
        """Answer the question of a message."""
        return await self._answer(CHAT, body, body.questions, body.new_tokens, responses.chat)

    async def compare(self, body: Comparison) -> dict[str, Any]:
        """Answer a question under several conditions."""
        with self.metrics.request(COMPARE):
            self._check_questions([body.question])
            for condition in body.conditions or ():
                if condition not in CONDITIONS:
                    message = f"no condition {short(condition)!r}: use {', '.join(CONDITIONS)}"
                    raise ApiError(400, message, "invalid_condition", "conditions")
            with self.queue.admitted(1):
                answers = await self.model.compare(body.question, body.conditions)
            for answer in answers.values():
                self.metrics.tokens.inc(answer.tokens)
            return {
                "question": body.question,
                "answers": {condition: responses.compared(answer) for condition, answer in answers.items()},
            }

    async def _answer(
        self, path: str, body: Sampled, questions: Sequence[str], new_tokens: int | None, form_of: Any
    ) -> Response | dict[str, Any]:
        form: Form = form_of(self.name)
        if body.stream:
            events = self._events(path, body, questions, new_tokens, form)
            # What is wrong with a request is known at the first event, and still has a status of its own then.
            first = await anext(events)
            return StreamingResponse(_after(first, events), media_type="text/event-stream")
        with self.metrics.request(path):
            asks = await self._asks(body, questions, new_tokens)
            with self.queue.admitted(len(asks)):
                replies = await _all([self.model.answer(ask) for ask in asks])
            for reply in replies:
                self.metrics.answered(reply)
            return form.whole(replies)

    async def _events(
        self, path: str, body: Sampled, questions: Sequence[str], new_tokens: int | None, form: Form
    ) -> AsyncGenerator[str, None]:
        """Yield the events of a stream; the first one is empty and comes once all questions are accepted."""
        began, ended = time.perf_counter(), []
        with self.metrics.request(path):
            asks = await self._asks(body, questions, new_tokens)
            streams = [self.model.stream(ask) for ask in asks]
            with self.queue.admitted(len(asks)):
                async with aclosing(_merged(streams)) as replies:
                    accepted, spoken = 0, False
                    async for index, reply in replies:
                        if not reply.text and reply.answer is None:
                            accepted += 1
                            if accepted == len(asks):
                                yield ""
                                if form.chat:
                                    yield responses.event(form.opening())
                            continue
                        if not spoken:
                            spoken = True
                            self.metrics.first.observe(time.perf_counter() - began)
                        if reply.answer is not None:
                            ended.append(reply)
                            self.metrics.answered(reply)
                        yield responses.event(form.piece(index, reply))
            if body.with_usage:
                yield responses.event(form.counts(ended))
            yield responses.DONE

    async def _asks(self, body: Sampled, questions: Sequence[str], new_tokens: int | None) -> list[Ask]:
        """Return the questions of a request.

        Raises:
            ApiError: if they ask for more than the limits allow.
        """
        self._check_model(body.model)
        self._check_questions(questions)
        default = (await self.model.facts()).max_new_tokens
        most = self.limits.new_tokens or default
        if new_tokens is not None and new_tokens > most:
            raise too_long(f"max_tokens={new_tokens}: at most {most}", "max_tokens")
        decoding = body.decoding(new_tokens or min(default, most))
        return [Ask(question=question, **decoding) for question in questions]

    def _check_model(self, name: str) -> None:
        if name != self.name:
            message = f"no model {short(name)!r} is served here: use {self.name!r}"
            raise ApiError(404, message, "model_not_found", "model")

    def _check_questions(self, questions: Sequence[str]) -> None:
        if not questions:
            raise ApiError(400, "give one prompt at least", "invalid_question", "prompt")
        if len(questions) > self.most_prompts:
            raise too_long(f"{len(questions)} prompts: at most {self.most_prompts} in one request", "prompt")
        longest = max(map(len, questions))
        if longest > self.limits.question_chars:
            raise too_long(f"the question has {longest:,} characters: at most {self.limits.question_chars:,}")

    async def _model(self) -> dict[str, Any]:
        facts = await self.model.facts()
        return {
            "id": self.name,
            "object": "model",
            "created": self.started,
            "owned_by": "ray-bridge",
            "source": facts.source,
            "target": facts.target,
            "task": facts.task,
            "max_new_tokens": self.limits.new_tokens or facts.max_new_tokens,
        }


async def _all(answers: Sequence[Any]) -> list[Reply]:
    """Wait for all answers; if one fails, the others are not asked for any longer."""
    tasks = [asyncio.ensure_future(answer) for answer in answers]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _merged(streams: Sequence[AsyncIterator[Reply]]) -> AsyncGenerator[tuple[int, Reply], None]:
    """Yield the replies of several streams as they come, each with the index of its stream."""
    queue: asyncio.Queue[tuple[int, Reply | BaseException | None]] = asyncio.Queue()

    async def drain(index: int, stream: AsyncIterator[Reply]) -> None:
        try:
            async for reply in stream:
                queue.put_nowait((index, reply))
            queue.put_nowait((index, None))
        except BaseException as error:
            queue.put_nowait((index, error))
            raise

    tasks = [asyncio.ensure_future(drain(index, stream)) for index, stream in enumerate(streams)]
    try:
        left = len(tasks)
        while left:
            index, reply = await queue.get()
            if isinstance(reply, BaseException):
                raise reply
            if reply is None:
                left -= 1
            else:
                yield index, reply
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _after(first: str, events: AsyncGenerator[str, None]) -> AsyncIterator[str]:
    """Yield events; an error after the first one becomes an event, since the status is sent already."""
    async with aclosing(events):
        if first:
            yield first
        try:
            async for one in events:
                yield one
        except ApiError as error:
            yield responses.event(error.body)


async def _page() -> HTMLResponse:
    return HTMLResponse(PAGE, headers=HEADERS)
