"""A result is stored with its command, machine and versions, whatever the benchmark gives."""

import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks import harness

BENCHMARKS = Path(harness.__file__).parent
WRITES_NO_RESULT = {
    "effects_figure": "draws a figure",
    "embedded_tables": "makes tables and a picture of a result",
    "fit_rates": "prints rates for rates.json",
    "latencies": "adds to the folders of finished jobs",
    "rivals": "is a study of embedded_ablations, which writes it",
    "compare": "reads results",
}


def commands() -> list[str]:
    """Return the names of the modules that are commands."""
    files = sorted(BENCHMARKS.glob("*.py"))
    return [path.stem for path in files if '__name__ == "__main__"' in path.read_text()]


def test_command_machine_and_versions_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = str(BENCHMARKS / "decoding.py")
    monkeypatch.setattr(sys, "argv", [script, "--ways", "eager", "--note", "two words"])
    stored = json.loads(harness.save("x", {"step_ms": 3.0}, tmp_path).read_text())
    assert stored.pop("command") == "python -m benchmarks.decoding --ways eager --note 'two words'"
    assert {"python", "torch", "transformers", "cpus", "device"} <= stored.pop("environment").keys()
    assert stored == {"step_ms": 3.0}


def test_what_a_benchmark_says_itself_stays(tmp_path: Path) -> None:
    own = {"environment": {"device": "cpu"}, "command": "make phase1"}
    assert json.loads(harness.save("x", own, tmp_path).read_text()) == own


def test_torchrun_is_part_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / "phase1_job.py"), "--size", "paper"])
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert harness.command() == "torchrun --nproc-per-node 4 -m benchmarks.phase1_job --size paper"


@pytest.mark.parametrize("name", [name for name in commands() if name not in WRITES_NO_RESULT])
def test_every_benchmark_stores_its_result_through_the_harness(name: str) -> None:
    text = (BENCHMARKS / f"{name}.py").read_text()
    assert re.search(r"from benchmarks\.harness import .*\b(save|described)\b", text), name


def test_the_readme_lists_every_command() -> None:
    listed = re.findall(r"^\| (`.*?`) \|", (BENCHMARKS / "README.md").read_text(), flags=re.MULTILINE)
    named = {name for row in listed for name in re.findall(r"`(\w+)`", row)}
    assert named == set(commands()) - {"compare"}


def test_processes_of_a_benchmark_keep_the_callers_path(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(BENCHMARKS.parent)
    monkeypatch.setenv("PYTHONPATH", "/one:/two")
    assert harness.python_path() == f"{root}:/one:/two"
    monkeypatch.delenv("PYTHONPATH")
    assert harness.python_path() == root
