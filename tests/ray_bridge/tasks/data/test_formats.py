"""Folders with parquet, csv and arrow files and hub snapshots give the examples that JSONL files give."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from bridge_common.errors import UserError
from ray_bridge.config.fingerprint import fingerprint
from ray_bridge.config.presets import tiny
from ray_bridge.tasks.gsm8k import GSM8K
from ray_bridge.tasks.hotpotqa import HotpotQA
from ray_bridge.tasks.task import Example

ROWS = {"question": ["How many?", "And now, in “quotes”?"], "answer": ["3 + 4 = 7\n#### 7", "#### 1,008"]}
SPLITS = ("train", "test")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def jsonl(folder: Path) -> Path:
    folder.mkdir()
    for split in SPLITS:
        rows = [dict(zip(ROWS, values, strict=True)) for values in zip(*ROWS.values(), strict=True)]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def parquet(folder: Path) -> Path:
    folder.mkdir()
    for split in SPLITS:
        pq.write_table(pa.table(ROWS), folder / f"{split}.parquet")
    return folder


def comma_separated(folder: Path) -> Path:
    folder.mkdir()
    for split in SPLITS:
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([list(ROWS), *zip(*ROWS.values(), strict=True)])
    return folder


def arrow(folder: Path) -> Path:
    folder.mkdir()
    for split in SPLITS:
        with pa.ipc.new_stream(folder / f"{split}.arrow", pa.table(ROWS).schema) as stream:
            stream.write_table(pa.table(ROWS))
    return folder


def saved_to_disk(folder: Path) -> Path:
    DatasetDict({split: Dataset.from_dict(ROWS) for split in SPLITS}).save_to_disk(folder)
    return folder


def snapshot(folder: Path) -> Path:
    """As the hub's cache holds openai/gsm8k: two configurations, the files named in the card."""
    for config in ("main", "socratic"):
        (folder / config).mkdir(parents=True)
        answers = ROWS["answer"] if config == "main" else ["#### 1", "#### 2"]
        for split in SPLITS:
            pq.write_table(pa.table(ROWS | {"answer": answers}), folder / config / f"{split}-00000-of-00001.parquet")
    card = ["---", "configs:"]
    for config in ("main", "socratic"):
        card += [f"- config_name: {config}", "  data_files:"]
        card += [line for split in SPLITS for line in (f"  - split: {split}", f"    path: {config}/{split}-*")]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))
    return folder


FORMATS = (parquet, comma_separated, arrow, saved_to_disk, snapshot)


def examples(folder: Path) -> list[Example]:
    task = GSM8K(str(folder))
    return [*task.train(), *task.test()]


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_gives_the_same_examples(tmp_path: Path, write: object) -> None:
    assert callable(write)
    assert examples(write(tmp_path / "data")) == examples(jsonl(tmp_path / "lines"))


def test_a_relative_folder_is_not_taken_for_a_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comma_separated(tmp_path / "csv")  # also the name of a loader of `datasets`
    monkeypatch.chdir(tmp_path)
    assert len(GSM8K("csv").test()) == 2


def test_a_split_has_the_name_that_the_data_set_gives_it(tmp_path: Path) -> None:
    rows = {"question": ["?"], "answer": ["Paris"], "context": ["Paris: It is old."]}
    place = tmp_path / "data"
    place.mkdir()
    for split, answer in (("train", "Rome"), ("validation", "Paris"), ("test", "hidden")):
        pq.write_table(pa.table(rows | {"answer": [answer]}), place / f"{split}.parquet")
    assert [e.gold for e in HotpotQA(str(place)).test()] == ["Paris"]
    (place / "validation.parquet").unlink()
    assert [e.gold for e in HotpotQA(str(place)).test()] == ["hidden"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test.parquet", b"PAR1 no parquet", "test.parquet as a data set (Parquet"),
        ("test.parquet", b"", "test.parquet as a data set (Parquet file size is 0 bytes)"),
        ("other.parquet", None, "has no split test: there are train"),
    ],
)
def test_faults_of_other_formats_are_one_line(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    place = parquet(tmp_path / "data")
    (place / "test.parquet").rename(place / name)
    if content is None:
        (place / name).unlink()
    else:
        (place / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        GSM8K(str(place)).test()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_faulty_csv_file_is_named(tmp_path: Path) -> None:
    place = comma_separated(tmp_path / "data")
    (place / "test.csv").write_bytes(b"question,answer\na,b\na,b,c,d\n")
    with pytest.raises(UserError, match=rf"cannot read {place}/test\.csv as a data set \(.*line 3, saw 4"):
        GSM8K(str(place)).test()


def test_a_faulty_row_of_another_format_has_its_number(tmp_path: Path) -> None:
    place = parquet(tmp_path / "data")
    pq.write_table(pa.table({"question": ["?", None], "answer": ["#### 1", "#### 2"]}), place / "test.parquet")
    with pytest.raises(UserError, match=rf"^{place}/test\.parquet, row 2: question is null"):
        GSM8K(str(place)).test()


def test_the_content_of_a_folder_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    first, second = parquet(tmp_path / "one"), parquet(tmp_path / "two")
    assert fingerprint(tiny(task="gsm8k", task_data=str(first))) == fingerprint(
        tiny(task="gsm8k", task_data=str(second))
    )
    pq.write_table(pa.table({"question": ["?"], "answer": ["#### 1"]}), second / "test.parquet")
    assert fingerprint(tiny(task="gsm8k", task_data=str(first))) != fingerprint(
        tiny(task="gsm8k", task_data=str(second))
    )
