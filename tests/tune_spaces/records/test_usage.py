"""How long trials ran, from their event logs: ended, running, killed without a word, resumed, reused."""

from pathlib import Path

import pytest

from bridge_common import files
from bridge_common.trial_folder import TrialFolder
from ray_bridge import paper_run, tiny_run
from tune_spaces.records.usage import TrialLog, Usage


def log_of(folder: Path, *events: tuple[float, str | int]) -> TrialFolder:
    """Write an event log of statuses (texts) and steps (numbers) with their times."""
    folder.mkdir(parents=True, exist_ok=True)
    for when, what in events:
        row = {"status": what} if isinstance(what, str) else {"step": what, "values": {"loss/total": 1.0}}
        kind = "status" if isinstance(what, str) else "metrics"
        files.append_jsonl(folder / "events.jsonl", {"kind": kind, "time": when, **row})
    return TrialFolder(folder)


@pytest.mark.parametrize(
    ("events", "now", "seconds"),
    [
        ([], None, 0),
        ([(100, "RUNNING"), (110, 1), (130, "FINISHED")], None, 30),
        ([(100, "RUNNING"), (110, 1)], 150, 50),
        ([(100, "RUNNING"), (110, 1)], None, 10),  # its driver died
        ([(100, "RUNNING"), (110, 1), (500, "RUNNING"), (520, 2)], 530, 40),  # died, and resumed
        ([(100, "RUNNING"), (110, "KILLED"), (500, "RUNNING"), (505, "FAILED")], None, 15),
    ],
)
def test_seconds_of_all_attempts(
    tmp_path: Path, events: list[tuple[float, str | int]], now: float | None, seconds: float
) -> None:
    assert TrialLog(log_of(tmp_path / "t", *events)).read().seconds(now) == seconds


def test_a_log_is_read_on_as_it_grows(tmp_path: Path) -> None:
    trial = log_of(tmp_path / "t", (100, "RUNNING"), (110, 1))
    log = TrialLog(trial).read()
    assert (log.step, log.first_step, log.status) == (1, (1, 110), "RUNNING")
    log_of(tmp_path / "t", (120, 2), (130, "KILLED"))
    assert (log.read().step, log.status, log.seconds()) == (2, "KILLED", 30)


def test_gpu_hours_of_own_trials_alone(tmp_path: Path) -> None:
    done = log_of(tmp_path / "trials" / "done", (0, "RUNNING"), (3600, "FINISHED"))
    done.write_result({"metrics": {}})
    log_of(tmp_path / "trials" / "reused", (0, "RUNNING"), (3600, "FINISHED")).write_result(
        {"metrics": {}, "reused_from": "elsewhere"}
    )
    running = log_of(tmp_path / "trials" / "running", (3600, "RUNNING"))
    usage = Usage([*map(TrialFolder, (tmp_path / "trials").iterdir()), TrialFolder(tmp_path / "trials" / "absent")])
    assert usage.gpu_hours(paper_run(), [running.name], now=5400) == 4 * 1.5
    assert usage.gpu_hours(tiny_run(), [running.name], now=5400) == 0
