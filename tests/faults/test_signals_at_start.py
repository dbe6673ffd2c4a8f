"""SIGINT in the first seconds of a campaign of the embedded pair, and the start after it."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.campaigns import driver_log
from tests.support.embedded_campaigns import Numbers, assert_as_undisturbed, numbers, running
from tests.support.faults import RECOVERY_S, end_by, last_line

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.mark.parametrize("seconds", [1.5, 12.0])
def test_a_start_ended_by_sigint_is_gone_in_time_and_the_next_has_the_undisturbed_numbers(
    seconds: float, storage: Path, ray_head: Any, undisturbed: Numbers, record_property: Any
) -> None:
    with running(storage) as process:
        time.sleep(seconds)
        record_property(RECOVERY_S, end_by(process, signal.SIGINT))
    assert last_line(storage).startswith("stopped by SIGINT "), driver_log(storage)
    assert "Traceback" not in driver_log(storage)
    with running(storage, address=ray_head.address) as process:
        assert process.wait(300) == 0, driver_log(storage)
    assert_as_undisturbed(numbers(storage), undisturbed)
