"""Rows of the hub through the real `datasets`, from a server that answers as the hub does and from its cache later."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.local_hub import local_hub

FIRST, SECOND = "a" * 40, "b" * 40
READ = """
import json, sys
from bridge_common.errors import UserError
from ray_bridge import check_data, pin_data, tiny
from ray_bridge.config.fingerprint import fingerprint
from ray_bridge.config.task_mapping import known_mapping
from ray_bridge.tasks.splits import make_task
try:
    spec = pin_data(tiny(task=sys.argv[1]))
    task = make_task(spec)
    found = {"golds": [[e.gold for e in task.train()], [e.gold for e in task.test()]], "fingerprint": fingerprint(spec)}
    found["groups"] = [dict(e.groups) for e in task.test()]
    found["commit"] = spec.task_revision or spec.task_mapping.test.revision
    small = spec.replace(num_fewshot=0, validation_examples=1)
    found["notes"] = check_data(small) if len(task.train()) > 1 else []
except UserError as error:
    found = {"error": str(error)}
print(json.dumps(found))
"""


def repository(folder: Path, configs: dict[str, dict[str, dict[str, list[Any]]]]) -> Path:
    """A data set without a script: parquet files, and a card that says which are of which configuration and split."""
    card = ["---", "configs:"]
    for config, splits in configs.items():
        (folder / config).mkdir(parents=True)
        card += [f"- config_name: {config}", "  data_files:"]
        for split, rows in splits.items():
            pq.write_table(pa.table(rows), folder / config / f"{split}-00000-of-00001.parquet")
            card += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))
    return folder


def read(task: str, home: Path, address: str | None) -> dict[str, Any]:
    """What a new process reads of a task with this home of the hub's cache; without an address, offline."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"} if address is None else {"HF_ENDPOINT": address}
    environment = {**os.environ, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", **offline}
    command = [sys.executable, "-c", READ, task]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "/s]" not in done.stderr, "progress bars"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def gsm8k(folder: Path, answers: list[str]) -> Path:
    rows = {"question": ["How many?"] * len(answers), "answer": answers}
    other = {"question": ["Which?"], "answer": ["#### 9"]}
    return repository(folder, {"main": {"train": rows, "test": rows}, "socratic": {"train": other, "test": other}})


@pytest.mark.slow
def test_rows_of_the_hub_are_read_at_the_commit_that_enters_the_fingerprint(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with local_hub("openai/gsm8k", gsm8k(tmp_path / "one", ["#### 1", "#### 2"]), FIRST) as address:
        first = read("gsm8k", home, address)
    assert first["golds"] == [["1", "2"], ["1", "2"]]
    assert first["commit"] == FIRST
    leaked, repeated = first["notes"]  # of data that are in this machine's cache
    assert leaked.startswith("gsm8k: 2 of 2 test questions are also training questions (gsm8k-test-00000, ")
    assert repeated.startswith("gsm8k: 2 of 2 test questions stand in the test split more than once")
    assert read("gsm8k", home, None) == first  # without the hub, from the cache
    with local_hub("openai/gsm8k", gsm8k(tmp_path / "two", ["#### 3"]), SECOND) as address:
        second = read("gsm8k", home, address)
    assert (second["golds"], second["commit"]) == ([["3"], ["3"]], SECOND)
    assert second["fingerprint"] != first["fingerprint"]


def snapshot(home: Path, name: str, commit: str) -> Path:
    """The folder of a commit in the layout of the hub's cache, which main stands for."""
    place = home / "hub" / f"datasets--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    return place / "snapshots" / commit


@pytest.mark.slow
def test_a_snapshot_that_was_copied_into_the_cache_is_read_without_the_hub(tmp_path: Path) -> None:
    choices = {name: [text] for name, text in zip("ABCD", "一二三四", strict=True)}
    rows = {"id": [0], "question": ["人有____个肾脏。"], **choices, "answer": ["B"]}
    configs = {config: {"val": rows, "dev": rows} for config in ("physician", "accountant")}
    repository(snapshot(tmp_path, "ceval/ceval-exam", SECOND), configs)
    found = read("ceval", tmp_path, None)
    assert found["golds"] == [["B", "B"], ["B", "B"]]
    assert found["groups"] == [{"subject": "accountant"}, {"subject": "physician"}]
    assert found["commit"] == SECOND


def test_a_snapshot_that_lacks_a_part_of_a_split_is_not_read(tmp_path: Path) -> None:
    folder = gsm8k(snapshot(tmp_path, "openai/gsm8k", FIRST), ["#### 1"])
    part = folder / "main" / "test-00000-of-00001.parquet"
    part.rename(part.with_name("test-00000-of-00002.parquet"))
    assert "cannot load openai/gsm8k from the hub" in read("gsm8k", tmp_path, None)["error"]


@pytest.mark.slow
def test_cells_of_a_csv_file_on_the_hub_are_text(tmp_path: Path) -> None:
    place = tmp_path / "repository"
    (place / "main").mkdir(parents=True)
    for split in ("train", "test"):
        (place / "main" / f"{split}.csv").write_text("question,answer\nNA,#### 1\nNone,#### 2\n")
    files = "".join(f"  - split: {split}\n    path: main/{split}.csv\n" for split in ("train", "test"))
    (place / "README.md").write_text(f"---\nconfigs:\n- config_name: main\n  data_files:\n{files}---\n")
    with local_hub("openai/gsm8k", place, FIRST) as address:
        first = read("gsm8k", tmp_path / "home", address)
    assert first.get("golds") == [["1", "2"], ["1", "2"]], first
    assert read("gsm8k", tmp_path / "home", None) == first  # without the hub, from the cache
