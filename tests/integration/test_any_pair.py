"""The command line on a pair of other architectures and on GSM8K from files, with two Ray Train workers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge_common.files import read_json, read_jsonl
from bridge_common.metric_names import CONDITIONS
from tests.support.model_pairs import make_pair

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "gsm8k"


def gsm8k_files(folder: Path) -> Path:
    """Return the folder of the real files if it lies beside the checkout, else of a few rows in their format."""
    if REAL.is_dir():
        return REAL
    rows = [
        {
            "question": f"Tom has {n} apples and buys 3 more. How many?",
            "answer": f"{n}+3=<<{n}+3={n + 3}>>\n#### {n + 3}",
        }
        for n in range(60)
    ]
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.slow
def test_gpt_neox_to_qwen2_on_gsm8k_runs_through(tmp_path: Path) -> None:
    pair = make_pair(tmp_path / "pair", "gpt_neox", "qwen2")
    settings = {
        "steps": 2,
        "batch_size": 4,
        "eval_every": 2,
        "num_fewshot": 2,
        "train_examples": 40,
        "validation_examples": 4,
        "test_examples": 6,
        "max_new_tokens": 8,
        "soft_tokens": 4,
        "source_layer": 2,
    }
    command = [sys.executable, "-m", "cluster", "phase1", "--preset", "tiny", "--storage", str(tmp_path / "runs")]
    command += ["--source", pair.source, "--target", pair.target, "--task", "gsm8k"]
    command += ["--data", str(gsm8k_files(tmp_path / "data")), "--gate-passes", "0", "--gate-attribute", "0"]
    command += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    done = subprocess.run(
        command, env={**os.environ, "COLUMNS": "120"}, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (trial,) = (tmp_path / "runs" / "phase1-tiny" / "trials").iterdir()
    samples, result = read_jsonl(trial / "samples.jsonl"), read_json(trial / "result.json")
    assert [row["index"] for row in samples] == list(range(6))
    assert result["workers"] == 2
    assert {f"accuracy/{condition}" for condition in CONDITIONS} <= set(result["metrics"])
    assert "bridged" in done.stdout
    assert "gate: passed" in done.stdout
