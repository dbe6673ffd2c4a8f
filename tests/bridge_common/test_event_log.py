"""The event log has every step once, also after a kill and a resume, and is read while it grows."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge_common import event_log, files
from bridge_common.event_log import EventLog
from bridge_common.files import read_log


def event(step: int) -> dict:
    return {"kind": "metrics", "time": 1.5, "step": step, "values": {"loss/total": step / 2}}


def test_a_resumed_writer_repeats_no_step_and_skips_an_incomplete_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = EventLog(path)
    for step in range(1, 6):
        first.metrics(step, {"loss": float(step)})
    first.metrics(5, {"accuracy": 0.5})
    with path.open("a") as file:
        file.write('{"kind": "metr')
    second = EventLog(path)
    for step in range(4, 8):
        second.metrics(step, {"loss": float(step)})
    second.metrics(5, {"accuracy": 0.5})
    events = read_log(path)
    assert [e["step"] for e in events if "loss" in e["values"]] == [1, 2, 3, 4, 5, 6, 7]
    assert [e["step"] for e in events if "accuracy" in e["values"]] == [5]
    assert all(set(e) == {"kind", "time", "step", "values"} for e in events)


WRONG = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.lists(st.integers()), st.just({"a": None}))
PARTS = ("kind", "time", "step", "values", "status", "path")


@settings(max_examples=60)
@given(st.lists(st.dictionaries(st.sampled_from(PARTS), st.one_of(WRONG, st.sampled_from(["metrics", "tags"])))))
def test_rows_of_another_form_are_skipped(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, event(7)]))
    EventLog(path).metrics(8, {"loss/total": 4.0})
    read = list(event_log.stream(path))
    assert [row["step"] for row in read[-2:]] == [7, 8]
    for row in read:
        part = {"metrics": "values", "tags": "values", "status": "status", "artifact": "path"}[row["kind"]]
        assert isinstance(row[part], dict if part == "values" else str)
        assert row["kind"] != "metrics" or isinstance(row["step"], int)


def test_a_growing_log_is_read_from_the_last_position_on(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert event_log.read(path, 0) == ([], 0)
    files.append_jsonl(path, event(1))
    events, position = event_log.read(path, 0)
    assert events == [event(1)]
    assert event_log.read(path, position) == ([], position)
    files.append_jsonl(path, event(2))
    assert event_log.read(path, position) == ([event(2)], path.stat().st_size)


def test_an_incomplete_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    line = json.dumps(event(1)) + "\n"
    path.write_text(line + line[:20])
    events, position = event_log.read(path, 0)
    assert events == [event(1)]
    path.write_text(line + line)
    assert event_log.read(path, position)[0] == [event(1)]


def test_an_event_after_the_incomplete_line_of_a_killed_writer_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(event(1))[:31] + json.dumps(event(2)) + "\n" + "no JSON\n" + json.dumps(event(3)) + "\n")
    assert event_log.read(path, 0)[0] == [event(2), event(3)] == read_log(path)


def test_a_log_that_was_replaced_is_read_from_its_start(tmp_path: Path) -> None:
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
    path = tmp_path_factory.mktemp("trial") / "events.jsonl"
    rows = [{"kind": "tags", "time": 0, "values": {"ä": "ü" * length}} for length in lengths]
    files.write_jsonl(path, rows)
    read, position = [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_log, "CHUNK", chunk)
        while True:
            events, after = event_log.read(path, position)
            if after == position:
                break
            read, position = read + events, after
    assert read == rows


def test_a_log_is_streamed_between_any_two_events_as_it_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert list(event_log.stream(path)) == []
    rows = [event(step) for step in range(9)]
    files.write_jsonl(path, rows)
    ends = [0, *(position + 1 for position, byte in enumerate(path.read_bytes()) if byte == ord("\n"))]
    with pytest.MonkeyPatch.context() as patch:
        for chunk in (1, 100, 1 << 18):
            patch.setattr(event_log, "CHUNK", chunk)
            for first, start in enumerate(ends):
                for last, until in enumerate(ends):
                    assert list(event_log.stream(path, start, until)) == rows[first:last]
    path.write_bytes(path.read_bytes()[:-3])
    assert list(event_log.stream(path)) == rows[:-1], "an incomplete event ends it"
    assert list(event_log.stream(path, 10_000)) == rows[:-1], "a log that was replaced is read from its start"
