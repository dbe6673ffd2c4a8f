"""Which trials count as hung, what is said of them, and which of their processes are killed."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from bridge_common import files, heartbeat
from bridge_common.heartbeat import TRIAL, Beat, worker_name
from bridge_common.trial_folder import TrialFolder
from tune_spaces.ray_tune.stalls import RESTART_S, Process, StallWatch, kill_here

TIMEOUT = 10.0


class Trial:
    """A trial whose processes are real, and whose beats and time are written by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = TrialFolder(folder)
        folder.mkdir(parents=True)
        self.now = 100.0
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.beats: dict[str, Beat] = {}
        self.asked: list[str] = []
        self.running = ["t"]
        self.watch = StallWatch(lambda: self.running, lambda _: self.folder, TIMEOUT, self._kill, lambda: self.now)

    def _kill(self, node_id: str, processes: Sequence[Process]) -> int:
        self.asked.append(node_id)
        return kill_here(processes)

    def start(self, name: str, rank: int | None = None, node_id: str = "n1") -> None:
        process = self.processes[name] = subprocess.Popen(["sleep", "600"])
        beat = {"name": name, "rank": rank, "pid": process.pid, "began": heartbeat.began(process.pid)}
        beat |= {"host": f"host-{node_id}", "node_id": node_id, "beats": 1, "signs": 0, "doing": "training"}
        self._write(Beat(**beat, last_sign=0.0, ended=False))  # type: ignore[arg-type]

    def _write(self, beat: Beat) -> None:
        self.beats[beat.name] = beat
        files.write_json(self.folder.path / "heartbeats" / f"{beat.name}.json", asdict(beat))

    def beat(self, name: str, *, signs: int = 0, ended: bool = False) -> None:
        before = self.beats[name]
        changes = {"beats": before.beats + 1, "signs": before.signs + signs, "ended": ended}
        self._write(Beat(**(asdict(before) | changes)))

    def after(self, seconds: float, each: Callable[[], object] = lambda: None) -> None:
        """Let time pass, a look a second, with something done before each look."""
        for _ in range(round(seconds)):
            self.now += 1
            each()
            self.watch.look()

    def alive(self) -> set[str]:
        return {name for name, process in self.processes.items() if process.poll() is None}

    def said(self) -> list[str]:
        return [event["values"]["stalled"] for event in self.folder.events()]


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    trial = Trial(tmp_path / "trials" / "t")
    yield trial
    for process in trial.processes.values():
        process.kill()
        process.wait()


def test_a_worker_that_stops_beating_is_named_and_all_workers_are_killed(trial: Trial) -> None:
    trial.start(TRIAL)
    trial.start(worker_name(0), 0)
    trial.start(worker_name(1), 1, "n2")
    trial.after(9, lambda: (trial.beat(TRIAL), trial.beat("rank-0", signs=1), trial.beat("rank-1", signs=1)))
    trial.after(10, lambda: (trial.beat(TRIAL), trial.beat("rank-0")))
    assert trial.alive() == {TRIAL, "rank-0", "rank-1"}
    trial.after(1)
    assert trial.said() == ["no step for 10 s on host-n2 (rank 1): killed, to start again from its checkpoint"]
    for name in ("rank-0", "rank-1"):
        trial.processes[name].wait(5)
    assert trial.asked == ["n1", "n2"]
    trial.after(RESTART_S - 20, lambda: trial.beat(TRIAL))
    assert trial.alive() == {TRIAL}, "Ray Train may start workers again"
    trial.start(worker_name(0), 0)
    trial.after(9, lambda: trial.beat(TRIAL))
    assert trial.alive() == {TRIAL, "rank-0"}
    assert len(trial.said()) == 1


def test_a_trial_whose_workers_do_not_come_back_loses_its_actor_too(trial: Trial) -> None:
    trial.start(TRIAL)
    trial.start(worker_name(0), 0)
    trial.after(14 + RESTART_S, lambda: trial.beat(TRIAL))
    assert len(trial.said()) == 2
    trial.processes[TRIAL].wait(5)
    trial.after(40)
    assert len(trial.said()) == 2, "while it starts again, however long that takes, nothing hangs"


def test_a_job_whose_processes_all_beat_hangs_all_the_same(trial: Trial) -> None:
    trial.start(TRIAL)
    trial.start(worker_name(0), 0)
    trial.after(12, lambda: (trial.beat(TRIAL), trial.beat("rank-0")))
    assert trial.said() == ["no step for 10 s on host-n1: killed, to start again from its checkpoint"]
    trial.processes["rank-0"].wait(5)
    assert trial.alive() == {TRIAL}


@pytest.mark.parametrize("sign", ["a worker's", "an event"])
def test_signs_and_events_keep_a_trial(trial: Trial, sign: str) -> None:
    trial.start(TRIAL)
    trial.start(worker_name(0), 0)

    def get_on() -> None:
        if trial.now % 9 == 0 and sign == "an event":
            files.append_jsonl(trial.folder.events_file, {"kind": "tags", "values": {"stalled": "no"}})
        elif trial.now % 9 == 0:
            trial.beat("rank-0", signs=1)

    trial.after(40, get_on)
    assert trial.alive() == {TRIAL, "rank-0"}


def test_a_job_that_waits_for_its_place_does_not_hang_but_its_stopped_actor_does(trial: Trial) -> None:
    trial.start(TRIAL)
    trial.after(40, lambda: trial.beat(TRIAL))
    assert trial.alive() == {TRIAL}
    trial.after(12)
    assert trial.said() == [
        "no step for 10 s on host-n1 (the trial's actor): killed, to start again from its checkpoint"
    ]
    trial.processes[TRIAL].wait(5)


def test_a_job_whose_workers_have_died_waits_for_new_ones(trial: Trial) -> None:
    trial.start(TRIAL)
    trial.start(worker_name(0), 0)
    trial.processes["rank-0"].kill()
    trial.processes["rank-0"].wait()
    trial.after(40, lambda: trial.beat(TRIAL))
    assert trial.alive() == {TRIAL}
    assert trial.said() == []


def test_a_controller_that_does_not_end_after_its_workers_hangs(trial: Trial) -> None:
    trial.start(TRIAL)
    trial.start(worker_name(0), 0)
    trial.beat("rank-0", signs=1, ended=True)
    trial.after(12, lambda: trial.beat(TRIAL))
    assert len(trial.said()) == 1
    trial.processes[TRIAL].wait(5)


def test_a_process_that_got_the_id_of_a_dead_one_is_spared(trial: Trial) -> None:
    trial.start(TRIAL)
    process = trial.processes[TRIAL]
    assert kill_here([(process.pid, trial.beats[TRIAL].began - 1)]) == 0
    assert process.poll() is None
    assert kill_here([(process.pid, trial.beats[TRIAL].began)]) == 1


def test_a_trial_that_starts_again_has_the_whole_time_anew(trial: Trial) -> None:
    trial.start(TRIAL)
    trial.start(worker_name(0), 0)
    trial.after(8)
    heartbeat.clear(trial.folder.path)
    trial.after(8)
    trial.start(worker_name(1), 1)
    trial.after(8)
    assert trial.said() == []
    trial.running = []
    trial.after(20)
    assert trial.said() == [], "one that does not run is not watched"


@pytest.mark.parametrize("timeout", [None, 0.0])
def test_without_a_timeout_nothing_is_watched(tmp_path: Path, timeout: float | None) -> None:
    assert StallWatch(list, TrialFolder, timeout).look()
