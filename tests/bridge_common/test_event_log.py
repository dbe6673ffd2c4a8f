"""The record keeps every step once, also over a kill and a resume."""

from pathlib import Path

from bridge_common.event_log import EventLog
from bridge_common.files import read_jsonl


def test_a_resumed_writer_repeats_no_step_and_mends_a_half_line(tmp_path: Path) -> None:
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
    events = read_jsonl(path)
    assert [e["step"] for e in events if "loss" in e["values"]] == [1, 2, 3, 4, 5, 6, 7]
    assert [e["step"] for e in events if "accuracy" in e["values"]] == [5]
    assert all(set(e) == {"kind", "time", "step", "values"} for e in events)
