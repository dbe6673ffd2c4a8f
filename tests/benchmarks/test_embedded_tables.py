"""Accuracy at K tokens from the jobs of a benchmark: which rows, over several files, with times of questions alone."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import embedded_tables, latencies
from benchmarks.embedded_tables import compression
from bridge_common.metric_names import CONDITIONS, budgeted, cost
from tests.support.local_jobs import finish_trial, small_spec
from tests.support.made_samples import bits, write_samples
from tests.support.model_pairs import make_pair

SIZES = (4, 16)
COSTS = {cost("prefill_tokens", "target_alone"): 30.0, cost("prompt_kv_bytes", "target_alone"): 300.0}


def finish(out: Path, name: str, bridged: str, held: float, *, texts: bool = False, alone: float | None = None) -> Path:
    """Leave the folder of a finished job whose target holds so many bytes of its prompt."""
    folder = out / f"{name}-s0"
    verdicts = dict.fromkeys(CONDITIONS, bits("1000")) | {"bridged": bits(bridged)}
    verdicts |= dict.fromkeys(budgeted(SIZES), bits("1100")) if texts else {}
    write_samples(folder / "samples.jsonl", verdicts)
    metrics = COSTS | {cost("prompt_kv_bytes", "bridged"): held}
    metrics |= {cost("prompt_kv_bytes", name): 200.0 for name in budgeted(SIZES)} if texts else {}
    (folder / "result.json").write_text(json.dumps({"metrics": metrics, "timings": {cost("seconds", "bridged"): 9.0}}))
    if alone is not None:
        timings = {cost("answer_seconds", "bridged"): alone}
        (folder / "alone.json").write_text(json.dumps({"timings": timings}))
    return folder


def rows_of(folders: dict[str, Path]) -> dict[tuple[str, int | None], dict[str, Any]]:
    rows = compression({(name, 0): folder for name, folder in folders.items()}, SIZES)
    return {(row["way"], row["tokens"]): row for row in rows}


def test_soft_tokens_in_the_prompts_place_need_no_job_with_text(tmp_path: Path) -> None:
    names = {"soft_only-long-k4": ("1100", 60.0), "soft_only-long": ("1110", 150.0), "swap": ("1111", 1.0)}
    folders = {name: finish(tmp_path, name, *of, alone=0.25) for name, of in names.items()}
    rows = rows_of(folders)
    assert list(rows) == [("soft_only", 4), ("soft_only", 16), ("target_alone", None)]
    four = rows["soft_only", 4]
    assert (four["accuracy"], four["held"], four["saved_bytes"], four["answer_seconds"]) == (0.5, 0.2, 240.0, 0.25)
    assert four["share"] == pytest.approx(4 / 30)
    assert rows["target_alone", None]["answer_seconds"] is None
    assert rows_of({"soft_only-long": folders["soft_only-long"]}) == {}, "one K is no comparison"


def test_the_front_is_over_the_rows_of_all_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = rows_of({"k4": finish(tmp_path, "k4", "1100", 340.0, texts=True)})
    instead = rows_of({n: finish(tmp_path, n, "1110", 150.0) for n in ("soft_only-long", "soft_only-long-k4")})
    assert beside["source_summary", 4]["efficient"], "as long as nothing is as accurate with fewer bytes"
    files = []
    for name, rows in (("a", beside), ("b", instead)):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps({"compression": list(rows.values())}))
    picture = tmp_path / "picture.png"
    monkeypatch.setattr(sys, "argv", ["embedded_tables", *map(str, files), "--picture", str(picture)])
    embedded_tables.main()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    front = {(cells[0], cells[1]) for cells in lines if cells[-1] == "yes"}
    assert front == {("soft tokens instead of the prompt", k) for k in ("4", "16")}
    assert picture.stat().st_size > 10_000


@pytest.mark.slow
def test_answers_are_timed_alone_with_the_text_that_the_job_measured(tmp_path: Path) -> None:
    sizes = {"steps": 2, "eval_every": 2, "warmup_steps": 1, "test_examples": 4, "text_budgets": (2,)}
    spec = small_spec(make_pair(tmp_path / "pair"), **sizes)
    trial = finish_trial(spec, tmp_path / "trials" / "k2-s0")
    latencies.main([str(trial), "--questions", "3"])
    found = json.loads((trial / "alone.json").read_text())
    names = ("bridged", "target_alone", *budgeted([2]))
    assert set(found["timings"]) == {cost("answer_seconds", name) for name in names}
    assert all(value > 0 for value in found["timings"].values())
    assert found["questions"] == 3
