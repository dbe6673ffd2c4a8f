"""The spool is read whole, once, and through the marks that killed writers leave."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge_common import event_log, files
from mlflow_utils.sync import points, sent_state
from mlflow_utils.sync.points import News, Point
from mlflow_utils.sync.sent_state import Sent


def event(step: int) -> dict:
    return {"kind": "metrics", "time": 1.5, "step": step, "values": {"loss/total": step / 2}}


def test_a_spool_is_read_bit_by_bit(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert event_log.read(path, 0) == ([], 0)
    files.append_jsonl(path, event(1))
    events, position = event_log.read(path, 0)
    assert events == [event(1)]
    assert event_log.read(path, position) == ([], position)
    files.append_jsonl(path, event(2))
    assert event_log.read(path, position) == ([event(2)], path.stat().st_size)


def test_a_line_that_is_still_being_written_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    line = json.dumps(event(1)) + "\n"
    path.write_text(line + line[:20])
    events, position = event_log.read(path, 0)
    assert events == [event(1)]
    path.write_text(line + line)
    assert event_log.read(path, position)[0] == [event(1)]


def test_an_event_after_the_stump_of_a_killed_writer_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(event(1))[:31] + json.dumps(event(2)) + "\n" + "rubbish\n" + json.dumps(event(3)) + "\n")
    assert event_log.read(path, 0)[0] == [event(2), event(3)] == event_log.read_all(path)


def test_a_spool_that_was_begun_anew_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    files.write_jsonl(path, [event(1), event(2)])
    _, position = event_log.read(path, 0)
    files.write_jsonl(path, [event(3)])
    assert event_log.read(path, position)[0] == [event(3)]


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(0, 400), max_size=30), chunk=st.integers(1, 500))
def test_reading_in_chunks_gives_every_event_once(
    tmp_path_factory: pytest.TempPathFactory, lengths: list, chunk: int
) -> None:
    path = tmp_path_factory.mktemp("spool") / "events.jsonl"
    rows = [{"kind": "tags", "time": 0, "values": {"ä": "ü" * length}} for length in lengths]
    files.write_jsonl(path, rows)
    found, position = [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_log, "CHUNK", chunk)
        while True:
            events, after = event_log.read(path, position)
            if after == position:
                break
            found, position = found + events, after
    assert found == rows


def test_points_are_numbers_with_the_time_of_their_event() -> None:
    row = {"kind": "metrics", "time": 12.3456, "step": 7, "values": {"a": 1, "b": float("nan"), "c": None, "d": "x"}}
    found = list(points.points([row, {"kind": "status", "status": "RUNNING"}]))
    assert [point.name for point in found] == ["a", "b"]
    assert found[0] == Point("a", 1.0, 12346, 7)


def test_a_training_step_done_again_is_no_news_but_another_evaluation_is() -> None:
    news = News()
    assert news(Point("loss/total", 0.5, 1, 10))
    assert not news(Point("loss/total", 0.5000001, 2, 10))
    assert news(Point("loss/total", 0.5, 2, 11))
    assert news(Point("accuracy/bridged", 0.5, 1, 10))
    assert not news(Point("accuracy/bridged", 0.5, 2, 10))
    assert news(Point("accuracy/bridged", 0.6, 2, 10))


def test_the_state_of_several_stores_is_kept_side_by_side_and_without_their_passwords(tmp_path: Path) -> None:
    path = tmp_path / "events.sent.json"
    uri = "postgresql://me:secret@host/db"
    Sent(run_id="1", position=5).save(path, sent_state.store_key(uri))
    Sent(run_id="2").save(path, sent_state.store_key("sqlite:///x"))
    assert Sent.load(path, sent_state.store_key(uri)) == Sent(run_id="1", position=5)
    assert Sent.load(path, "other") == Sent()
    assert "secret" not in path.read_text()
