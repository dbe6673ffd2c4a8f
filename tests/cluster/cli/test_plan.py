"""What a plan promises and what it costs, as printed."""

import re
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from cluster.cli import plan
from cluster.cli.options import PhaseRequest
from cluster.cli.plan import check_lines, price, print_plan
from cluster.cli.request import parse_phase
from cluster.preflight.check import Check
from tune_spaces.design.cost_estimates import comparison_resolution


def request(storage: Path, *arguments: str, phase: str = "phase1") -> PhaseRequest:
    return parse_phase(phase, ["--storage", str(storage), "--skip-preflight", *arguments])


def printed(capsys: pytest.CaptureFixture[str], storage: Path, *arguments: str, phase: str = "phase1") -> str:
    print_plan(phase, request(storage, *arguments, phase=phase))
    return capsys.readouterr().out


def test_the_price_of_the_confident_gate_has_its_further_runs() -> None:
    minutes = {"full": 10, "more-1": 40, "more-2": 11, "B": 3, "C": 4, "constant": 2}
    trials = [
        {"name": name, "variant": name, "minutes": value, "gpu_hours": value / 15, "done": False, "same_as": None}
        | {"minutes_by_part": {}}
        for name, value in minutes.items()
    ]
    record = {
        **{"trials": trials, "first": ["full"], "extras": ["more-1", "more-2"], "beside": ["constant"]},
        **{"branches": {"pass": [], "attribute": ["B", "C"]}, "search": None},
        "estimate": {"finished": 0, "card": None, "assumed": ["a card"]},
    }
    line = price(record)[0]
    assert line.startswith("to run: about 12 to 70 minutes, 0.8 to 4.7 GPU-hours, the most with all 2 further runs")
    assert price({**record, "extras": []})[0] == "to run: about 12 to 19 minutes, 0.8 to 1.3 GPU-hours"


def test_it_is_whole_at_a_terminal_of_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    text = re.sub(r"\x1b\[[0-9;]*m", "", printed(capsys, tmp_path))
    assert "…" not in text
    assert [line for line in text.splitlines() if len(line) > 80 and "/" not in line] == []
    assert {"everything", "projection", "alignment"} <= set(text.split())
    assert re.search(r"^full +phase1 +0 +[0-9a-f]{16} ", text, flags=re.MULTILINE), "fingerprints are whole"


def test_what_could_not_be_checked_is_one_line_a_reason() -> None:
    known = Check(name="context", status="pass", detail="full: 300 positions at most, of 2,048 and any")
    absent = "not checked, since this machine does not have nobody/a and nobody/b"
    skipped = [
        Check(name=name, status="skip", detail=f"{trial}: {absent}")
        for name in ("context", "memory")
        for trial in ("full-1", "A-2")
    ]
    assert check_lines([known, *skipped]) == [f"context: {known.detail}", f"context and memory: {absent}"]


def test_a_known_target_that_is_not_here_is_refused_on_gpus_that_do_not_hold_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(plan, "gpu_bytes", lambda _: [])
    large = ["--preset", "paper", "--task", "synthetic", "--target", "meta-llama/Llama-3.1-70B-Instruct"]
    asked = parse_phase("phase1", ["--storage", str(tmp_path), *large])
    with pytest.raises(UserError, match=r"of 80 GB on each GPU; .* \(spread the target over GPUs \(target_shards=4\)"):
        print_plan("phase1", asked, gpu_memory=80)
    print_plan("phase1", asked)
    assert "of 80 GB on each GPU, assumed: --gpu-memory GB says what they have" in capsys.readouterr().out
    in_parts = ["--storage", str(tmp_path), "--name", "in-parts", *large, "--set", "target_shards=4"]
    print_plan("phase1", parse_phase("phase1", in_parts), gpu_memory=80)
    assert "context: not checked, since this machine does not have mistralai/" in capsys.readouterr().out


def test_what_a_comparison_shows_is_in_points_and_of_the_plans_family(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, tmp_path, "--set", "test_examples=1319")
    smallest = comparison_resolution(1319, comparisons=2)
    assert smallest is not None
    assert (
        f"each comparison at n = 1319: shows a difference of {100 * smallest:.1f} points with 80 % power (exact "
        "McNemar of two runs, 12 % of items discordant, corrected for 2 comparisons)"
    ) in text
    assert "is within ±3.5 points of 70 %, ±3.7 points of 65 %" in text
