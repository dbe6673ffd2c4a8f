"""A process of a running job of the embedded pair is killed: the campaign ends by itself as if nothing had happened."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.campaigns import NAME, driver_log
from tests.support.command_line import call_here
from tests.support.embedded_campaigns import (
    STEPS,
    WHOLE,
    Numbers,
    assert_as_undisturbed,
    numbers,
    running,
    starts,
    trained,
    wait_until_it_trains,
    went_on_from,
)
from tests.support.faults import RECOVERY_S, assert_nothing_reserved, process_of, rays_process

pytestmark = [pytest.mark.slow, pytest.mark.long]
VICTIMS: dict[str, Callable[[Path], int]] = {
    "worker": lambda storage: process_of(storage, "rank-1"),
    "trial actor": lambda storage: process_of(storage, "trial"),
    "Train controller": lambda storage: rays_process(os.getpid(), "TrainController"),
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_killed_process_of_a_job_changes_no_number(
    victim: str, storage: Path, ray_head: Any, undisturbed: Numbers, record_property: Any
) -> None:
    with running(storage, address=ray_head.address) as process:
        wait_until_it_trains(storage)
        os.kill(VICTIMS[victim](storage), signal.SIGKILL)
        killed, before = time.time(), len(trained(storage))
        assert before < STEPS, "it was killed while it trained"
        assert process.wait(300) == 0, driver_log(storage)
    assert_nothing_reserved(ray_head)
    first, again = starts(storage)
    assert first < killed < again, "it was started again, once"
    record_property(RECOVERY_S, again - killed)
    assert call_here("status", "--storage", str(storage)).stdout.startswith(f"{NAME}: finished")
    assert went_on_from(storage) >= WHOLE, "a start from the first step on would have the same numbers"
    assert_as_undisturbed(numbers(storage), undisturbed)
