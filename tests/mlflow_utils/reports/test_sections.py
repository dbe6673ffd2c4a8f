"""The text of a run's section, of its line in the log and of a campaign's summary, word for word."""

from pathlib import Path
from typing import Any

import pytest

from bridge_common import files
from mlflow_utils.dataframes import Run
from mlflow_utils.reports.markdown import log_line, run_section, summary_section

METRICS = {
    **{"n": 200.0, "accuracy/bridged": 0.7, "accuracy_low/bridged": 0.633, "accuracy_high/bridged": 0.759},
    **{"correct/bridged": 140.0, "flexible/bridged": 0.715, "accuracy/bridged/seen": 0.8, "accuracy/bridged/none": 0.6},
    **{"accuracy/target_alone": 0.5, "accuracy/target_alone/seen": 0.55},
    **{"gain": 0.2, "information": -0.015, "seconds": 3725.4, "gpu_hours": 4.139},
}
PARAMS = {"kl_alignment": True, "decode_aware": False, "lr": 0.0003}


def run(folder: Path, **changes: Any) -> Run:
    values: dict[str, Any] = {
        "campaign": "demo",
        "phase": "phase1",
        "variant": "full",
        "seed": 3,
        "fingerprint": "ab12",
    }
    values |= {"status": "FINISHED", "started": 1_760_000_000_000, "ended": 1_760_003_600_000, "folder": str(folder)}
    return Run(**{**values, "params": PARAMS, "metrics": METRICS, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "runs" / "demo" / "trials" / "full-ab12"
    for name in ("samples.jsonl", "result.json"):
        files.write_text(place / name, "{}\n")
    files.write_json(place / "spec.json", {"spec": {"task": "synthetic"}})
    return place


def test_a_run_in_full(folder: Path, tmp_path: Path) -> None:
    assert run_section(run(folder), tmp_path / "paper") == (
        "## demo · phase1 · full · seed 3\n\n"
        "FINISHED on 2025-10-09 09:53 UTC, 1 h 02 min, 4.14 GPU-hours. Fingerprint `ab12`.\n\n"
        "| condition | accuracy | 95 % interval | correct | flexible | seen words | numerals |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| bridged | 70.0 % | [63.3, 75.9] | 140 of 200 | 71.5 % | 80.0 % | 60.0 % |\n"
        "| target alone | 50.0 % |  |  |  | 55.0 % |  |\n\n"
        "gain (bridged − target alone) +20.0 points; information (bridged − shuffled soft) -1.5 points.\n\n"
        "Settings: `kl_alignment` on, `decode_aware` off, `lr` 0.0003.\n\n"
        "- samples: `../runs/demo/trials/full-ab12/samples.jsonl`\n"
        "- result: `../runs/demo/trials/full-ab12/result.json`\n"
        "- spec: `../runs/demo/trials/full-ab12/spec.json`"
    )


def test_a_run_of_which_little_is_known(tmp_path: Path) -> None:
    bare = run(tmp_path / "gone", status="KILLED", ended=None, params={}, metrics={})
    assert run_section(bare, tmp_path) == (
        "## demo · phase1 · full · seed 3\n\nKILLED on 2025-10-09 08:53 UTC. Fingerprint `ab12`."
    )


def test_a_failed_run_has_its_error_and_no_backticks_in_it(tmp_path: Path) -> None:
    files.write_json(tmp_path / "error.json", {"error": "ValueError: `x` | y"})
    failed = run(tmp_path, status="FAILED", params={}, metrics={"gain": 0.0})
    assert run_section(failed, tmp_path).split("\n\n")[2:] == [
        "It failed: `ValueError: 'x' | y`",
        "gain (bridged − target alone) +0.0 points.",
    ]
    (tmp_path / "error.json").unlink()
    assert run_section(failed, tmp_path).split("\n\n")[2:] == ["gain (bridged − target alone) +0.0 points."]
    files.write_json(tmp_path / "error.json", {"error": "no"})
    assert "It failed" not in run_section(run(tmp_path), tmp_path), "a run that finished after all"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(59.4, "59 s"), (60.0, "1 min 00 s"), (3599.0, "59 min 59 s"), (3600.0, "1 h 00 min"), (7265.0, "2 h 01 min")],
)
def test_durations_are_in_the_largest_units_that_matter(tmp_path: Path, seconds: float, text: str) -> None:
    metrics = {"seconds": seconds}
    assert f"UTC, {text}. Fingerprint" in run_section(run(tmp_path, metrics=metrics), tmp_path)


def test_a_run_as_a_line(folder: Path, tmp_path: Path) -> None:
    assert log_line(run(folder), tmp_path / "paper") == (
        "- 2025-10-09 09:53 UTC · demo/phase1 · full, seed 3 · FINISHED · bridged 70.0 % [63.3, 75.9] · "
        "gain +20.0 points · `../runs/demo/trials/full-ab12/samples.jsonl`"
    )
    bare = run(folder.parent / "gone", status="KILLED", metrics={})
    assert log_line(bare, tmp_path / "paper") == (
        "- 2025-10-09 09:53 UTC · demo/phase1 · full, seed 3 · KILLED · `../runs/demo/trials/gone`"
    )


HEAD = (
    "| phase | variant | seed | status | depth | kl_alignment | decode_aware | lr | bridged | 95 % interval | n | "
    "target alone | gain | information | samples |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
)


def test_a_campaign_in_one_table(folder: Path, tmp_path: Path) -> None:
    later = run(folder.parent / "gone", phase="phase1.5", variant="B|C", metrics={}, params={"depth": 2})
    text = summary_section(folder.parents[1], [later, run(folder)], tmp_path / "paper")
    assert text == (
        "## demo\n\n"
        + HEAD
        + "| phase1 | full | 3 | FINISHED |  | on | off | 0.0003 | 70.0 % | [63.3, 75.9] | 200 | 50.0 % | +20.0 | -1.5 "
        "| `../runs/demo/trials/full-ab12/samples.jsonl` |\n"
        "| phase1.5 | B\\|C | 3 | FINISHED | 2 |  |  |  |  |  |  |  |  |  |  |"
    )


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ([], "Gate: not decided."),
        ({"decisions": []}, "Gate: not decided."),
        (
            {"decisions": [{"branch": "attribute", "accuracy": 0.66}]},
            "Gate: not passed (branch `attribute`) at 66.0 %.",
        ),
        ({"decisions": [{}, {"branch": "pass", "accuracy": 0.72}]}, "Gate: passed at 72.0 %."),
        (
            {
                "decisions": [
                    {"branch": "attribute"},
                    {"branch": "pass", "accuracy": 0.72, "low": 0.65, "high": 0.781, "n": 200, "uncertain": True},
                ],
                "settings": {"passes": 0.7, "attribute": 0.65},
            },
            "Gate: passed at 72.0 % [65.0, 78.1] on 200 items (interval over items, seeds left out); "
            "*uncertain*: the interval straddles a boundary (boundaries 70.0 % and 65.0 %).",
        ),
        (
            {"decisions": [{"branch": "pass", "accuracy": 0.7, "low": 0.6, "high": 0.8, "n": 200, "clusters": 20}]},
            "Gate: passed at 70.0 % [60.0, 80.0] on 200 items in 20 clusters (interval over items, seeds left out).",
        ),
        (
            {"decisions": [{"branch": "pass", "accuracy": 0.72, "low": 0.6}], "settings": {"passes": 0.7}},
            "Gate: passed at 72.0 %.",
        ),
        (
            {"decisions": [{"branch": "pass", "accuracy": 0.72, "high": 0.6}], "settings": {"attribute": 0.7}},
            "Gate: passed at 72.0 %.",
        ),
    ],
)
def test_the_gate_in_a_sentence(folder: Path, tmp_path: Path, record: Any, text: str) -> None:
    files.write_json(folder.parents[1] / "gate.json", record)
    assert summary_section(folder.parents[1], [run(folder)], tmp_path).split("\n\n")[1] == text
