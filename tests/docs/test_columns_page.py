"""The page on columns names every column, metric and field of samples that a campaign and a job record."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from bridge_common.files import read_json, read_jsonl, read_log
from bridge_common.metric_names import CONDITIONS
from tests.support.card_campaigns import make_ended
from tests.support.documents import ROOT
from tests.support.local_jobs import finish_trial, small_spec
from tests.support.model_pairs import make_pair
from tune_spaces import Campaign

PAGE = (ROOT / "docs/columns.md").read_text()
PLACES = {
    "C": f"(?:{'|'.join(CONDITIONS)})",
    "V": r"[\w ]+",
    "L": r"\w+",
    "N": r"\d+",
    "*": r".+",
}


def named(heading: str) -> re.Pattern[str]:
    """Return what matches the names in the first column of the table under a heading."""
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    names = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert len(names) > 5
    place = re.compile(r"(?<![A-Za-z])[CVL](?![A-Za-z])|N(?=_|$)|\*")
    patterns = ["".join(PLACES.get(p, re.escape(p)) for p in re.split(f"({place.pattern})", name)) for name in names]
    return re.compile("|".join(patterns))


def unnamed(names: Iterable[str], *headings: str) -> list[str]:
    patterns = [named(heading) for heading in headings]
    return sorted({name for name in names if not any(pattern.fullmatch(name) for pattern in patterns)})


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = small_spec(
        make_pair(tmp_path_factory.mktemp("pair")),
        steps=4, eval_every=2, warmup_steps=1, pooling="attention", bridge="dit_xattn", decode_aware=True,
    )  # fmt: skip
    return finish_trial(spec, tmp_path_factory.mktemp("campaign") / "trials" / "full-0")


def test_metrics_of_a_job(trial: Path) -> None:
    final = read_json(trial / "metrics.json")
    assert unnamed(final, "The final evaluation") == []
    recorded = [event["values"] for event in read_log(trial / "events.jsonl") if event["kind"] == "metrics"]
    curves = {name for values in recorded for name in values} - final.keys()
    assert {"loss/total", "pooling/entropy_share/head1", "decode/tokens", "start/models"} <= curves
    assert unnamed(curves, "Training", "The final evaluation") == []


def test_fields_of_samples(trial: Path) -> None:
    row, *_ = read_jsonl(trial / "samples.jsonl")
    groups = {"words"}  # of the synthetic task
    assert unnamed(row.keys() - groups, "Samples") == []


def test_columns_of_a_campaign(tmp_path: Path) -> None:
    make_ended(tmp_path, "demo", items=20, seeds=(0,), sizes=(8,))
    columns = Campaign.load(tmp_path, "demo").results().columns
    assert {"name", "kl", "accuracy/bridged"} <= set(columns)
    assert unnamed(columns, "A trial", "The final evaluation") == []
