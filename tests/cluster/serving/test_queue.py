"""A server's queue: a request is admitted with all of its questions or refused, and leaves nothing in it."""

import asyncio

import pytest

from cluster.serving.errors import ApiError
from cluster.serving.queue import QuestionQueue


def test_a_request_is_admitted_whole_or_refused() -> None:
    queue = QuestionQueue(at_once=4, waiting=6)
    with queue.admitted(8):
        with pytest.raises(ApiError, match="the queue has room for 2, not for 3 questions: ask again") as raised:
            queue.admitted(3).__enter__()
        assert (raised.value.status, raised.value.headers) == (429, {"Retry-After": "1"})
        with queue.admitted(2), pytest.raises(ApiError, match="room for 0, not for 1 question: "):
            queue.admitted(1).__enter__()
    with queue.admitted(queue.most):
        pass


def test_a_request_that_fails_gives_its_room_back() -> None:
    queue = QuestionQueue(at_once=1, waiting=0)
    for _ in range(3):
        with pytest.raises(RuntimeError), queue.admitted(1):
            raise RuntimeError


def test_questions_take_places_in_the_order_in_which_they_came() -> None:
    async def ask() -> list[int]:
        queue, taken = QuestionQueue(at_once=2, waiting=9), list[int]()

        async def one(number: int) -> None:
            async with queue.place():
                taken.append(number)
                assert len(taken) - done[0] <= 2
                await asyncio.sleep(0.001)
                done[0] += 1

        done = [0]
        await asyncio.gather(*(one(number) for number in range(9)))
        return taken

    assert asyncio.run(ask()) == list(range(9))
