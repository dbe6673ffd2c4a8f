"""The clock of a host is set back by an hour while its trials run: they end as if it had not been."""

from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.campaigns import driver_log, prepare, steps
from tests.support.clock import ShiftedClock
from tests.support.command_line import call_here
from tests.support.faults import assert_as_undisturbed, driving, trial_of
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long]
STEPS, HOUR = 60, 3600


def test_a_clock_that_is_set_back_changes_nothing(storage: Path, tmp_path: Path) -> None:
    """The driver, its local Ray and the trial have that clock; `status` is asked under the true one."""
    clock = ShiftedClock(tmp_path)
    prepare(storage, {"full": 0.72}, steps=STEPS, pause=0.5)
    with driving(storage, "--set=progress_timeout=60", **clock.variables) as process:
        wait_for(lambda: len(steps(storage, "full")) >= 5, 300, "it works")
        clock.shift(-HOUR)
        done = len(steps(storage, "full"))
        wait_for(lambda: len(steps(storage, "full")) >= done + 10, 120, "it goes on")
        assert call_here("status", "--storage", str(storage)).returncode == 0
        assert process.wait(300) == 0, driver_log(storage)
    times = [event["time"] for event in trial_of(storage).events() if event["kind"] == "metrics"]
    assert min(later - earlier for earlier, later in pairwise(times)) < -HOUR + 60, "the clock was set back"
    assert "no step for" not in driver_log(storage)
    assert_as_undisturbed(storage, STEPS)
