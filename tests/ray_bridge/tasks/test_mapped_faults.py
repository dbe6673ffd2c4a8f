"""Faults of mapped rows that Python itself would raise on are one line with file and remedy."""

import json
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from ray_bridge import check_data, tiny

MAPPING = 'name = "own"\nkind = "letter"\nquestion = "question"\nchoices = "choices"\ngold = "gold"\n'
ROW = {"question": "Which?", "choices": ["a", "b"]}


@pytest.mark.parametrize(
    ("settings", "row"),
    [
        ('gold_form = "label"\nlabels = "labels"\n', {"gold": "A", "labels": None}),
        ('gold_form = "label"\nlabels = "labels"\n', {"gold": "A", "labels": "AB"}),
        ('gold_form = "index"\n', {"gold": "9" * 5000}),
    ],
)
def test_a_row_that_cannot_be_used_is_one_line(tmp_path: Path, settings: str, row: dict[str, object]) -> None:
    from cluster.cli.request import task_fields

    (tmp_path / "own.toml").write_text(MAPPING + settings)
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(ROW | row) + "\n")
    spec = tiny(**task_fields(str(tmp_path / "own.toml")), task_data=str(tmp_path))
    with pytest.raises(UserError) as error:
        check_data(spec)
    assert "line 1" in str(error.value)
    assert "\n" not in str(error.value)
