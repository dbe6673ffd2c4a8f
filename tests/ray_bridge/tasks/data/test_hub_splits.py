"""Which split of a data set on the hub a task is tested on, read by `datasets` from a folder of the same name."""

import json
from pathlib import Path

import datasets
import pytest

from ray_bridge.tasks.hotpotqa import HotpotQA

CARD = """---
configs:
- config_name: distractor
  data_files:
  - split: train
    path: train.jsonl
  - split: validation
    path: validation.jsonl
  - split: test
    path: test.jsonl
---
"""


def test_hotpotqa_is_tested_on_the_validation_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers of its test split are not public: every one is empty."""
    folder = tmp_path / "hotpotqa" / "hotpot_qa"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    for split in ("train", "validation", "test"):
        row = {"question": f"Which split is {split}?", "answer": "" if split == "test" else split, "context": "None."}
        (folder / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    task = HotpotQA()
    (trained,), (tested,) = task.train(), task.test()
    assert (trained.gold, tested.gold) == ("train", "validation")
    assert (trained.id, tested.id) == ("hotpotqa-train-00000", "hotpotqa-test-00000")
