"""Folders with parquet, csv and arrow files and hub snapshots give the examples that JSONL files give."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from bridge_common.errors import UserError
from ray_bridge.config.fingerprint import fingerprint
from ray_bridge.config.presets import tiny
from ray_bridge.config.task_mapping import TaskMapping
from ray_bridge.tasks.gsm8k import GSM8K
from ray_bridge.tasks.hotpotqa import HotpotQA
from ray_bridge.tasks.mapped import MappedTask
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


def written(folder: Path, train: str, test: str) -> Path:
    folder.mkdir()
    (folder / "train.csv").write_text(train)
    (folder / "test.csv").write_text(test)
    return folder


def mapped(folder: Path, **fields: Any) -> MappedTask:
    return MappedTask(TaskMapping(name="own", question="q", gold="gold", **fields), str(folder))


def test_cells_of_a_csv_file_are_the_text_that_is_written(tmp_path: Path) -> None:
    rows = "q,a,b,c,d,gold\n?,0.50,1.00,007,1e5,007\nNA,None,N/A,NA,nan,None\nnull,true,,-0,+1,-0\n"
    place = written(tmp_path / "data", rows, rows)
    task = mapped(place, kind="letter", choices=("a", "b", "c", "d"), gold_form="text")
    with pytest.raises(UserError, match=rf"^{place}/train\.csv, row 3: .*each choice must be text or a number"):
        task.train()
    (place / "train.csv").write_text(rows.replace("true,,", "true,false,"))
    task = mapped(place, kind="letter", choices=("a", "b", "c", "d"), gold_form="text")
    assert [(e.choices, e.gold) for e in task.train()] == [
        (("0.50", "1.00", "007", "1e5"), "C"),
        (("None", "N/A", "NA", "nan"), "A"),
        (("true", "false", "-0", "+1"), "C"),
    ]
    assert [e.question.partition("\n")[0] for e in task.train()] == ["?", "NA", "null"]


def test_gold_of_a_csv_file_keeps_its_digits(tmp_path: Path) -> None:
    exact = written(tmp_path / "exact", "q,gold\n?,007\nx,NA\n", "q,gold\n?,18.5\n")
    assert [e.gold for e in mapped(exact, kind="exact").train()] == ["007", "NA"]
    numeric = written(tmp_path / "numeric", "q,gold\n?,7\n", "q,gold\n?,0.1234567890123456789\n!,18.5\n")
    assert [e.gold for e in mapped(numeric, kind="numeric").train()] == ["7"]
    assert [e.gold for e in mapped(numeric, kind="numeric").test()] == ["0.1234567890123456789", "18.5"]


@pytest.mark.parametrize("row", [",7", '"",7', "?,", "?"])
def test_an_empty_cell_of_a_csv_file_is_refused(tmp_path: Path, row: str) -> None:
    place = written(tmp_path / "data", "q,gold\na,b\n", f"q,gold\na,b\n{row}\n")
    with pytest.raises(UserError, match=rf"^{place}/test\.csv, row 2: (q|gold) is empty; fill it in"):
        mapped(place, kind="exact").test()


CSV = "question,answer\nÇa?,#### 7\n"


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (CSV, CSV.encode("utf-16"), "test.csv as a data set ('utf-8' codec can't decode byte 0xff in position 0"),
        (CSV, CSV.encode("latin-1"), "): save it as UTF-8, as with iconv"),
        (CSV, b"question,answer\n", "test.csv holds no rows; add some, or remove the file"),
        (CSV, b"", "test.csv holds no rows; add some, or remove the file"),
        (CSV, b"question,response\n?,#### 7\n", "its files differ in their columns (answer, response): give all"),
        (CSV, b'question,answer\n"?,#### 7\n?,1\n', "): close the quotation mark"),
        (CSV, b"question,answer\n?,1,#### 7\n", "more cells than its header: quote cells that hold commas"),
        (
            "question,answer\n?,1,#### 7\n",
            b"question,answer\n?,1,#### 7\n",
            "test.csv: rows of a CSV file have more cells than its header: quote cells that hold commas",
        ),
    ],
)
def test_a_csv_file_that_cannot_be_used_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], train: str, test: bytes, message: str
) -> None:
    place = written(tmp_path / "data", train, "")
    (place / "test.csv").write_bytes(test)
    with pytest.raises(UserError) as caught:
        GSM8K(str(place)).test()
    assert message in str(caught.value)
    assert str(place) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # no progress bars or log lines beside it


@pytest.mark.parametrize(
    ("rows", "size", "message"),
    [
        (ROWS, 200, "test.parquet as a data set (Parquet magic bytes not found"),
        (ROWS, 200, "): the file is not whole: write or copy it again"),
        ({name: [] for name in ROWS}, None, "test.parquet holds no rows; add some, or remove the file"),
        (ROWS | {"more": ["x", "y"]}, None, "its files differ in their columns (more): give all the same columns"),
    ],
)
def test_a_parquet_file_that_cannot_be_used_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], rows: dict[str, list[str]], size: int | None, message: str
) -> None:
    place = parquet(tmp_path / "data")
    text = pa.schema([(name, pa.string()) for name in rows])
    pq.write_table(pa.table(rows, schema=text), place / "test.parquet")
    (place / "test.parquet").write_bytes((place / "test.parquet").read_bytes()[:size])
    with pytest.raises(UserError) as caught:
        GSM8K(str(place)).test()
    assert message in str(caught.value)
    assert str(place) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
