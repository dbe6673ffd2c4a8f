"""A process's signs of life on disk: who it is, what it has completed, and whether it still beats."""

import os
import time
from pathlib import Path

import pytest

from bridge_common import files, heartbeat
from bridge_common.heartbeat import LOADING, READING, Heartbeat, beats, began, seconds_without_sign
from tests.support.waiting import wait_for


def test_a_beat_says_who_beats_and_what_was_completed(tmp_path: Path) -> None:
    alive = Heartbeat(tmp_path, "rank-1", rank=1, node_id="f00d", every_s=0.02)
    with alive.beating():
        (first,) = beats(tmp_path)
        assert (first.pid, first.began, first.rank, first.node_id) == (os.getpid(), began(os.getpid()), 1, "f00d")
        alive.sign("training")
        alive.sign("evaluation")
        wait_for(lambda: beats(tmp_path)[0].signs == first.signs + 2, 5)
        now = beats(tmp_path)[0]
        assert now.doing == "evaluation"
        assert not now.ended
        wait_for(lambda: beats(tmp_path)[0].beats > now.beats + 2, 5, "it beats without signs")
        assert beats(tmp_path)[0].signs == now.signs
    assert beats(tmp_path)[0].ended
    heartbeat.clear(tmp_path)
    assert beats(tmp_path) == []


def test_a_worker_that_is_expected_counts_as_one_that_gives_no_sign(tmp_path: Path) -> None:
    with Heartbeat(tmp_path / "one", "rank-0", rank=0).beating():
        pass
    (before,) = beats(tmp_path / "one")
    heartbeat.expect(tmp_path / "two", [before])
    (after,) = beats(tmp_path / "two")
    assert (after.pid, after.began, after.rank, after.signs, after.ended) == (before.pid, before.began, 0, 0, False)
    assert seconds_without_sign(tmp_path / "two", after.last_sign + 3) == pytest.approx(3)


def test_bytes_that_are_read_are_a_sign_only_while_weights_load(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(bytes(4 * READING))
    alive = Heartbeat(tmp_path, every_s=60)
    for doing, more in ((LOADING, 1), ("training", 0)):
        alive.sign(doing)
        alive._beat()
        before = beats(tmp_path)[0].signs
        weights.read_bytes()
        alive._beat()
        assert beats(tmp_path)[0].signs == before + more, doing


def test_a_full_disk_ends_no_job(tmp_path: Path) -> None:
    (tmp_path / "heartbeats").write_text("a file, where no folder can be made")
    with Heartbeat(tmp_path).beating():
        pass
    assert beats(tmp_path) == []


def test_a_job_without_a_folder_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    alive = Heartbeat(None)
    with alive.beating():
        alive.sign("training")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_beat_is_left_out(tmp_path: Path) -> None:
    with Heartbeat(tmp_path, "rank-0", rank=0).beating(), Heartbeat(tmp_path, "rank-1", rank=1).beating():
        for damage in ("", "{", '{"name": "rank-0"}', "\0\0"):
            (tmp_path / "heartbeats" / "rank-0.json").write_text(damage)
            assert [beat.name for beat in beats(tmp_path)] == ["rank-1"], damage


def test_how_long_ago_the_last_sign_was(tmp_path: Path) -> None:
    assert seconds_without_sign(tmp_path, time.time()) is None, "nothing runs"
    with Heartbeat(tmp_path).beating():
        assert seconds_without_sign(tmp_path, time.time()) is None, "no worker has begun: it may wait for its place"
        with Heartbeat(tmp_path, "rank-0", rank=0).beating():
            path = tmp_path / "heartbeats" / "rank-0.json"
            files.write_json(path, files.read_json(path) | {"last_sign": 1000.0})
            assert seconds_without_sign(tmp_path, 1090.0) == 90.0
            assert seconds_without_sign(tmp_path, 900.0) == 0.0, "its clock is ahead"
        assert seconds_without_sign(tmp_path, time.time()) is None, "all workers have done their part"


@pytest.mark.parametrize(("timeout", "seconds"), [(None, 5.0), (0, 5.0), (1800.0, 5.0), (6.0, 1.0)])
def test_beats_come_often_enough_for_the_timeout(timeout: float | None, seconds: float) -> None:
    assert heartbeat.interval(timeout) == seconds
