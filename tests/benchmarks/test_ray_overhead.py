"""Ray and plain processes are compared like for like: in turns, with the same settings of a process."""

from pathlib import Path

import pytest

from benchmarks.ray_overhead import WORKER, bare, steps_of, take_turns
from bridge_common.files import append_jsonl
from ray_bridge.config.presets import tiny, tiny_run


def test_ways_take_turns_and_medians_count(tmp_path: Path) -> None:
    order: list[str] = []

    def run(way: str, step: float, folder: Path) -> float:
        order.append(way)
        for seconds in (9.0, step * order.count(way), step * order.count(way)):
            append_jsonl(folder / "events.jsonl", {"kind": "metrics", "values": {"seconds_per_step": seconds}})
        return 10.0 * order.count(way)

    ways = {"bare": lambda folder: run("bare", 0.1, folder), "ray": lambda folder: run("ray", 0.2, folder)}
    found = take_turns(ways, 3, 1, tmp_path)
    assert order == ["bare", "ray", "ray", "bare", "bare", "ray"]
    assert found["bare"] == {"job_s": 20.0, "step_ms": 200.0, "step_ms_of_turns": [100.0, 200.0, 300.0]}
    assert found["ray"]["step_ms"] == 400.0


@pytest.mark.slow
def test_the_plain_process_trains_and_keeps_freed_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "told"
    probe = WORKER.replace("keep_freed_memory()", f"Path({str(told)!r}).write_text(str(keep_freed_memory()))")
    monkeypatch.setattr("benchmarks.ray_overhead.WORKER", probe)
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    spec = tiny(steps=2, warmup_steps=1, eval_every=2, validation_examples=2, test_examples=2, train_examples=100)
    assert bare(spec.replace(decode_aware=False, max_new_tokens=4), tiny_run(workers=1), tmp_path) > 0
    assert len(steps_of(tmp_path)) == 2
    assert told.read_text() == "True"
