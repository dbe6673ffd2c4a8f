"""`python -m cluster phase1` on a local Ray: what it prints, records and writes, and its exit code."""

import re
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from bridge_common import files
from bridge_common.metric_names import CONDITIONS
from ray_bridge.config.checkpoint_names import EMBEDDED
from tests.support.campaigns import DIRECT, NAME, driver, driver_log, end, events, prepare

pytestmark = pytest.mark.slow


def run(storage: Path, *arguments: str, job: str = DIRECT) -> tuple[int, str]:
    """Run the command, which makes its MLflow database, to its end; return its exit code and its output."""
    (storage / "driver.log").unlink(missing_ok=True)
    process = driver(storage, *arguments, job=job, database=False)
    try:
        return process.wait(560), driver_log(storage)
    finally:
        end(process)


def test_a_phase_with_its_summary_records_and_second_start(tmp_path: Path) -> None:
    prepare(tmp_path, {"full": 0.62, "A": 0.60, "B": 0.58, "C": 0.61}, steps=2, samples=True)
    options = ["--reports", str(tmp_path / "paper"), "--skip-preflight", "--verbose"]
    code, log = run(tmp_path, "--set", "test_examples=400", *options)
    assert code == 0, log
    words = " ".join(log.split())
    texts = [line.split(": ", 1)[-1].strip() for line in log.splitlines() if len(line) > 80]
    wide = [text for text in texts if " " in text and not text.startswith("python -m cluster ")]
    assert not wide, "only paths, addresses and commands to copy may be wider than 80 columns"
    assert "starting Ray …" in log
    assert log.index("starting Ray …") < log.index("campaign ")
    assert f"{tmp_path}/" in log
    assert "/#/experiments/1/runs?viewStateShareKey=campaign&workflowType=machine_learning" in log
    assert re.search(r"full \(seed 0\): finished, 62.0% \[57.2, 66.6\], (gain \S+, )?\d+\.\d min", words)
    assert "full (seed 0): starts (all toggles on)" in log
    assert "gate: below 65%: A, B and C attribute what is missing: 62.0% [57.2%, 66.6%] at n = 400, UNCERTAIN" in words
    assert "; interval over items, seeds left out; chances of the true accuracy: " in words
    assert "% for 65% to below 70%, " in words
    assert "gain (bridged − target alone)" in log
    assert "Effects of toggles on bridged accuracy" in log
    assert f"python -m cluster ui --storage {tmp_path}" in words
    folder = tmp_path / NAME
    assert f"card: {folder}/card.html" in words
    assert "What was not run" in (folder / "card.html").read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "paper").glob("*.md")} == {
        *("CODEX_REPORT.md", "LOG.md", "EXPERIMENTS_SUMMARY.md")
    }
    report = (tmp_path / "paper" / "CODEX_REPORT.md").read_text()
    assert all(f"{name}-" in report for name in ("full", "A", "B", "C"))
    assert "samples.jsonl" in report
    effects = pd.read_parquet(folder / "appendix" / "effects.parquet")
    assert {"estimate", "low", "high", "noise_floor"} <= set(effects.columns)
    assert (effects["status"] == "estimated").any()
    assert effects["noise_floor"].notna().any(), "A is B's replicate"
    plan = files.read_json(folder / "plan.json")
    assert all(row["done"] for row in plan["trials"])
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        names = [name for (name,) in database.execute("select name from runs")]
        statuses = {status for (status,) in database.execute("select status from runs")}
        toggles = dict(database.execute("select key, count(*) from params where key like 'toggle.%' group by key"))
    assert len(names) == 6, "two phases and four trials"
    assert statuses == {"FINISHED"}
    assert toggles == {f"toggle.{key}": 4 for key in ("kl", "prompt", "decode", "projection")}
    assert files.read_json(folder / "campaign.json")["request"]["preflight"] == ["skipped"]
    # A second start runs nothing, and prints the same.
    code, again = run(tmp_path, "--set", "test_examples=400")
    assert code == 0, again
    assert files.read_json(folder / "campaign.json")["request"]["preflight"] == ["skipped"], "nothing was left to check"
    assert events(tmp_path, "start") == ["full", "A", "B", "C"]
    assert " ".join(again.split()).count("at n = 400") == 1
    assert "gain (bridged − target alone)" not in again, "one table without --verbose"
    assert "− full" in again
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert len(list(database.execute("select name from runs"))) == 6


@pytest.mark.skipif(not (EMBEDDED["source"] / "config.json").is_file(), reason="the embedded pair is not there")
def test_the_embedded_pair_goes_through_phase_1_5_to_an_attribution(tmp_path: Path) -> None:
    """With few steps the accuracies mean nothing; models, training, evaluation and appendix are the real ones.

    `test_any_pair` goes this way with Ray Train.
    """
    small = {
        "workers": 1,
        "steps": 2,
        "batch_size": 4,
        "train_examples": 64,
        "validation_examples": 4,
        "test_examples": 12,
        "max_new_tokens": 24,
        "eval_every": 2,
        "decode_questions": 2,
        "decode_samples": 2,
    }
    settings = [f"--set={name}={value}" for name, value in small.items()]
    gate = ("--gate-passes=1", "--gate-attribute=1", "--parallel=2", "--verbose")
    code, log = run(tmp_path, *settings, *gate, job="tests.support.local_jobs:in_the_trials_process")
    assert code == 0, log
    assert files.read_json(tmp_path / NAME / "campaign.json")["request"]["preflight"] == ["passed"]
    effects = pd.read_parquet(tmp_path / NAME / "appendix" / "effects.parquet")
    assert len(effects) > 0
    assert (tmp_path / NAME / "appendix" / "pareto.png").is_file()
    costs = files.read_json(tmp_path / NAME / "appendix" / "appendix.json")["costs"]
    assert {(row["variant"], row["condition"]) for row in costs} == {
        (v, c) for v in ("full", "A", "B", "C") for c in CONDITIONS
    }
    assert all(row["flops"] > 0 for row in costs)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        recorded = {name for (name,) in database.execute("select distinct key from latest_metrics")}
    costs = ("flops/text_bridge", "passed_bytes/bridged", "seconds/bridged")
    assert {f"detail/cost/{name}" for name in costs} <= recorded
    assert sorted(path.name.split("-")[0] for path in (tmp_path / NAME / "trials").iterdir()) == ["A", "B", "C", "full"]
    for condition in CONDITIONS:
        row = rf"\W {condition.replace('_', ' ')} +\W +\d+ +\W +12 "
        assert len(re.findall(row, log)) == 4, f"{condition}, with its n, in the table of each trial"
