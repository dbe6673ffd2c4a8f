"""A replica: one translator with its models, which answers questions in batches."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ray import serve

from bridge_common.errors import UserError
from cluster.serving.exchange import Answered, Ask, Facts, Reply
from cluster.serving.settings import ServerSettings

if TYPE_CHECKING:
    from ray_bridge import Answer

Result = TypeVar("Result")
WARM_UP = "How many?"


@dataclass
class Streamed:
    """A question that is answered in pieces.

    Attributes:
        ask: the question.
        left: whether nobody reads its pieces any longer.
    """

    ask: Ask
    left: bool = False


class Model:
    """A translator in a process of its own.

    All computation is done by one thread, step by step, so that batches and streams take turns and the process answers
    Ray Serve's health checks meanwhile.

    Args:
        settings: the server's.
        device: where the models go.
    """

    def __init__(self, settings: ServerSettings, device: str) -> None:
        from transformers.utils.logging import set_verbosity_error

        from ray_bridge import Translator

        set_verbosity_error()
        self.translator = Translator.load(
            settings.place,
            source=settings.source,
            target=settings.target,
            device=device,
            plugins=settings.plugins,
        )
        self.translator.generate(WARM_UP, max_new_tokens=2)  # the few-shot header is read here, not in the first answer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="translator")
        for batched in (self.answer, self.stream_together):
            batched.set_max_batch_size(settings.batch_size)
            batched.set_batch_wait_timeout_s(settings.batch_wait_ms / 1000)

    async def facts(self) -> Facts:
        """Describe the translator."""
        spec = self.translator.spec
        return Facts(max_new_tokens=spec.max_new_tokens, source=spec.source, target=spec.target, task=spec.task)

    @serve.batch()
    async def answer(self, asks: list[Ask]) -> list[Reply]:
        """Answer questions together, each as it would be answered alone."""
        return await self._compute(lambda: self._answer(asks))

    async def stream(self, ask: Ask) -> AsyncIterator[Reply]:
        """Answer a question in pieces; the first says whether it can be answered, the last has the answer."""
        streamed = Streamed(ask)
        try:
            async for reply in self.stream_together(streamed):
                if reply is not None:
                    yield reply
        finally:
            streamed.left = True

    @serve.batch()
    async def stream_together(self, asks: list[Streamed]) -> AsyncIterator[list[Any]]:
        """Answer questions together, yielding a reply or None for each at every step, and StopIteration at its end."""
        steps = self._stream(asks)
        while (replies := await self._compute(lambda: next(steps, None))) is not None:
            yield replies

    async def compare(self, question: str, conditions: list[str] | None) -> dict[str, Answered] | Reply:
        """Answer a question under several conditions."""

        def compute() -> dict[str, Answered] | Reply:
            try:
                answers = self.translator.compare(question, conditions)
            except UserError as error:
                return _refusal(error)
            return {condition: _answered(answer) for condition, answer in answers.items()}

        return await self._compute(compute)

    async def _compute(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _answer(self, asks: list[Ask]) -> list[Reply]:
        replies = self._checked(asks)
        for places in _alike(asks, replies):
            temperature, new_tokens = asks[places[0]].settings
            answers = self.translator.generate(
                [asks[i].question for i in places],
                temperature=temperature,
                seed=[asks[i].seed for i in places],
                max_new_tokens=new_tokens,
                batch_size=len(places),
            )
            for i, answer in zip(places, answers, strict=True):
                replies[i] = Reply(
                    text=answer.text,
                    answer=_answered(answer),
                    prompt_tokens=replies[i].prompt_tokens,
                    together=len(places),
                )
        return replies

    def _stream(self, streams: list[Streamed]) -> Iterator[list[Any]]:
        """Yield a list of replies a step, None for a question without new text, StopIteration after its last piece.

        Questions that are decoded together end early once all of their readers have left.
        """
        asks = [stream.ask for stream in streams]
        checked = self._checked(asks)
        ended = [reply.problem is not None for reply in checked]
        yield list(checked)  # refusals, before anything is decoded
        groups = [(places, self._pieces([asks[i] for i in places])) for places in _alike(asks, checked)]
        while groups:
            step: list[Any] = [StopIteration if done else None for done in ended]
            for group in [*groups]:
                places, pieces = group
                new = None if all(streams[i].left for i in places) else next(pieces, None)
                if new is None:
                    groups.remove(group)
                    continue
                for piece in new:
                    i = places[piece.index]
                    step[i] = Reply(
                        text=piece.text,
                        answer=None if piece.answer is None else _answered(piece.answer),
                        prompt_tokens=checked[i].prompt_tokens,
                        together=len(places),
                    )
                    ended[i] = piece.answer is not None
            yield step

    def _pieces(self, asks: list[Ask]) -> Iterator[Any]:
        temperature, new_tokens = asks[0].settings
        return self.translator.stream_batch(
            [ask.question for ask in asks],
            temperature=temperature,
            seed=[ask.seed for ask in asks],
            max_new_tokens=new_tokens,
        )

    def _checked(self, asks: list[Ask]) -> list[Reply]:
        """Return for each question the positions that it takes, or why it cannot be answered."""
        replies = []
        for ask in asks:
            try:
                replies.append(Reply(prompt_tokens=self.translator.prompt_tokens(ask.question, ask.max_new_tokens)))
            except UserError as error:
                replies.append(_refusal(error))
        return replies


def _answered(answer: "Answer") -> Answered:
    return Answered(**asdict(answer))


def _refusal(error: UserError) -> Reply:
    from ray_bridge.footprint.context import TooLongError

    return Reply(problem=str(error), too_long=isinstance(error, TooLongError))


def _alike(asks: list[Ask], replies: list[Reply]) -> list[list[int]]:
    """Return the indices of the questions that can be answered, grouped by their settings."""
    groups: dict[tuple[float, int], list[int]] = {}
    for i, ask in enumerate(asks):
        if replies[i].problem is None:
            groups.setdefault(ask.settings, []).append(i)
    return list(groups.values())
