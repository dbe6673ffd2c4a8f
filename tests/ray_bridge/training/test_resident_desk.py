"""The desk of a resident group: each job once to every worker, its news to who asked, and an end when none comes."""

import asyncio
from typing import Any

import pytest

from ray_bridge.training.resident_desk import Desk


def test_every_worker_gets_each_job_once_and_news_come_while_it_runs() -> None:
    async def play() -> None:
        desk = Desk(workers=2, idle_s=60)
        waiting = [asyncio.create_task(desk.next_job(rank, 0)) for rank in range(2)]
        await asyncio.sleep(0)
        assert await desk.ask({"number": 1})
        assert [await one for one in waiting] == [{"number": 1}] * 2
        assert await desk.follow(0, 0.01) == ([], True, False)
        await desk.report({"step": 5.0}, "a")
        assert await desk.follow(0, 60) == ([({"step": 5.0}, "a")], True, False)
        first = asyncio.create_task(desk.next_job(0, 1))
        assert await desk.follow(1, 0.01) == ([], True, False), "the other worker is still at it"
        second = asyncio.create_task(desk.next_job(1, 1))
        assert await desk.follow(1, 60) == ([], True, True)
        assert await desk.ask({"number": 2})
        assert (await first, await second) == ({"number": 2}, {"number": 2})
        assert await desk.follow(0, 0.01) == ([], True, False), "news of the second job alone"

    asyncio.run(play())


def test_without_a_job_it_closes_and_takes_none() -> None:
    async def play() -> None:
        desk = Desk(workers=2, idle_s=0.05)
        assert await desk.ask({})
        for rank in range(2):
            await desk.next_job(rank, 0)
        waiting = [asyncio.create_task(desk.next_job(0, 1))]
        assert await asyncio.wait_for(waiting[0], 10) is None
        assert not await desk.ask({"number": 2}), "one worker has ended"
        assert await desk.next_job(1, 1) is None
        assert await desk.follow(0, 60) == ([], True, True)

    asyncio.run(play())


def test_it_closes_at_once_when_asked_to() -> None:
    async def play() -> Any:
        desk = Desk(workers=1, idle_s=60)
        waiting = asyncio.create_task(desk.next_job(0, 0))
        await asyncio.sleep(0)
        await desk.close()
        return await asyncio.wait_for(waiting, 10), await desk.ask({})

    assert asyncio.run(play()) == (None, False)


def test_a_worker_that_was_started_anew_is_given_no_job_again() -> None:
    async def play() -> None:
        desk = Desk(workers=1, idle_s=60)
        await desk.ask({"number": 1})
        await desk.next_job(0, 0)
        with pytest.raises(RuntimeError, match="worker 0 was started anew"):
            await desk.next_job(0, 0)

    asyncio.run(play())


def test_a_job_that_no_worker_has_begun_is_known() -> None:
    async def play() -> None:
        desk = Desk(workers=1, idle_s=60)
        await desk.ask({"number": 1})
        assert await desk.follow(0, 0.01) == ([], False, False)

    asyncio.run(play())
