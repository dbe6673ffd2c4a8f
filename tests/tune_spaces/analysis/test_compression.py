"""Accuracy at K tokens: what is compared, what each K saves, and which points no other one beats."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bridge_common.metric_names import budgeted
from tests.support.made_samples import bits, write_samples
from tune_spaces.analysis.analyse import analyse
from tune_spaces.analysis.compressed_trials import compression
from tune_spaces.analysis.compression import Measured, compression_rows
from tune_spaces.analysis.estimates import Cells
from tune_spaces.analysis.scored_trials import read_trials
from tune_spaces.appendix.compression_table import HEADER, compression_table
from tune_spaces.appendix.markdown import markdown

ALONE = {"cost/prefill_tokens/target_alone": 40.0, "cost/cached_tokens/target_alone": 10.0}
HELD = {"cost/prompt_kv_bytes/target_alone": 5_000.0, "cost/prompt_kv_bytes/bridged": 1_000.0}


def run(tmp_path: Path, variant: str, bridged: str, texts: str = "", **row: Any) -> dict[str, Any]:
    verdicts = {"bridged": bits(bridged), "target_alone": bits("1010")}
    verdicts |= dict.fromkeys(budgeted([4, 8]), bits(texts)) if texts else {}
    path = write_samples(tmp_path / f"{variant}-{row.get('seed', 0)}.jsonl", verdicts)
    return {"variant": variant, "seed": 0, "layout": "soft_plus_text", "samples": str(path), **row}


def rows_of(*runs: dict[str, Any]) -> list[dict[str, Any]]:
    return compression(read_trials(pd.DataFrame(list(runs)), []))


def test_soft_tokens_of_both_layouts_text_and_the_whole_prompt(tmp_path: Path) -> None:
    texts = {f"cost/prompt_kv_bytes/{name}": 900.0 for name in budgeted([4, 8])}
    rows = rows_of(
        run(tmp_path, "full", "1110", soft_tokens=8, **ALONE, **HELD),
        run(tmp_path, "k4", "1000", "1100", soft_tokens=4, **texts),
        run(tmp_path, "k4-soft_only", "1100", soft_tokens=4, layout="soft_only"),
        run(tmp_path, "other", "1111", soft_tokens=4, task="math", bridge="resampler"),
    )
    assert [(row["way"], row["tokens"]) for row in rows] == [
        ("soft_plus_text", 4), ("soft_plus_text", 8), ("soft_only", 4),
        *((way, k) for way in ("question_cut", "source_summary", "text_bridge") for k in (4, 8)),
        ("target_alone", None),
    ]  # fmt: skip
    found = {(row["way"], row["tokens"]): row for row in rows}
    assert found["soft_plus_text", 4]["accuracy"] == 0.25
    assert found["soft_plus_text", 8]["share"] == 8 / 50
    assert found["soft_plus_text", 8]["saved_bytes"] == 4_000
    assert found["text_bridge", 8]["saved_bytes"] == 4_100
    assert found["soft_only", 4]["saved_bytes"] is None
    assert found["target_alone", None]["share"] is None


def test_one_k_without_text_is_no_compression(tmp_path: Path) -> None:
    assert rows_of(run(tmp_path, "full", "1110", soft_tokens=8)) == []
    assert rows_of(run(tmp_path, "full", "1110", "1100", soft_tokens=8)) != []


def test_text_is_answered_once_whatever_number_of_trials_measured_it(tmp_path: Path) -> None:
    runs = [run(tmp_path, f"k{k}", "1000", "1100", soft_tokens=k, seed=seed) for k in (4, 8) for seed in (0, 1)]
    rows = {(row["way"], row["tokens"]): row for row in rows_of(*runs)}
    assert {rows[way, 4]["runs"] for way in ("question_cut", "source_summary", "text_bridge")} == {1}
    assert rows["soft_plus_text", 4]["runs"] == 2


def test_a_configuration_that_ran_twice_under_one_seed_counts_once(tmp_path: Path) -> None:
    again = [run(tmp_path, name, "1000", soft_tokens=4) for name in ("full", "k4")]
    rows = rows_of(*again, run(tmp_path, "k8", "1000", soft_tokens=8))
    assert [row["runs"] for row in rows if row["way"] == "soft_plus_text"] == [1, 1]


def test_intervals_go_by_clusters_and_seeds() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    cells = [rng.random((3, 40)) < 0.8, rng.random((3, 40)) < 0.5, rng.random((1, 40)) < 0.4]
    clusters = np.repeat(np.arange(10), 4)
    ways = (("soft_only", 4), ("soft_only", 8), ("question_cut", 4))
    measured = [Measured(way=way, tokens=k, correct=cell) for (way, k), cell in zip(ways, cells, strict=True)]
    rows = compression_rows(measured, None, clusters)
    joint = Cells.of({str(i): cell for i, cell in enumerate(cells)}, clusters, {"0": "s", "1": "s", "2": "q"})
    assert [(row["low"], row["high"]) for row in rows] == [joint.accuracy(str(i)) for i in range(3)]
    assert {row["clusters"] for row in rows} == {10}
    assert compression_rows([], None) == []


@pytest.mark.parametrize(
    ("accuracy", "held", "efficient"),
    [
        ([0.5, 0.75], [10.0, 20.0], [True, True]),
        ([0.75, 0.75], [10.0, 20.0], [True, False]),
        ([0.75, 0.5], [10.0, 10.0], [True, False]),
        ([0.5, 0.5], [10.0, 10.0], [True, True]),
        ([0.25, 0.75], [10.0, None], [True, False]),
    ],
)
def test_the_front(accuracy: list[float], held: list[float | None], efficient: list[bool]) -> None:
    import numpy as np

    measured = [
        Measured(
            way="question_cut",
            tokens=i,
            correct=np.arange(4)[None] < 4 * share,
            costs={} if kept is None else {"prompt_kv_bytes": kept},
        )
        for i, (share, kept) in enumerate(zip(accuracy, held, strict=True))
    ]
    assert [row["efficient"] for row in compression_rows(measured, None)] == efficient


def test_the_appendix_has_the_table(tmp_path: Path) -> None:
    frame = pd.DataFrame([run(tmp_path, "full", "1110", "1100", soft_tokens=8, **ALONE, **HELD)])
    appendix = analyse(read_trials(frame, []))
    assert appendix.as_json()["compression"] == appendix.compression
    text = markdown(appendix, title="t", quoted=0, pictures=[])
    section = text.split("## Compression")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert lines[0] == "| " + " | ".join(HEADER) + " |"
    assert "| soft tokens and the prompt | 8 | 16.0 | 20.0 | 1 | 4 |  | 75.0 |" in lines[2]
    assert "| 1 kB | 4 kB |" in lines[2]
    assert lines[-1].startswith("| the whole prompt |  |  | 100.0 | 1 | 4 |  | 50.0 |")
    assert compression_table(appendix.compression) in section


def test_appendices_without_several_k_have_no_section(tmp_path: Path) -> None:
    appendix = analyse(read_trials(pd.DataFrame([run(tmp_path, "full", "1110", soft_tokens=8)]), []))
    assert "## Compression" not in markdown(appendix, title="t", quoted=0, pictures=[])
