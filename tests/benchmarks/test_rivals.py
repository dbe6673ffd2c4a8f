"""The table of rivals: each method beside its twin with a source of random weights."""

import json
from pathlib import Path

import pytest

from benchmarks.embedded_ablations import jobs, random_twin_of, table
from benchmarks.rivals import markdown, variants
from bridge_common.metric_names import BRIDGE_BYTES, BRIDGE_PARAMETERS, CONDITIONS
from ray_bridge.config.presets import tiny
from tests.support.made_samples import bits, write_samples
from tests.support.markdown_tables import tables

GROUPS = ("none", "seen", "transfer", "transfer")


def finish(out: Path, name: str, seed: int, bridged: str) -> None:
    """Leave the folder of a finished job whose bridge answers as given, and its other conditions alike."""
    folder = out / f"{name}-s{seed}"
    verdicts = dict.fromkeys(CONDITIONS, bits("1000")) | {"bridged": bits(bridged)}
    path = write_samples(folder / "samples.jsonl", verdicts)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | {"words": g}) + "\n" for row, g in zip(rows, GROUPS, strict=True)))
    result = {"metrics": {BRIDGE_PARAMETERS: 1e3, BRIDGE_BYTES: 1e6}, "seconds": 1.0, "evaluation_seconds": 1.0}
    (folder / "result.json").write_text(json.dumps(result))


def test_each_method_but_the_one_without_a_source_has_a_twin_that_differs_in_the_source_alone() -> None:
    named = variants()
    assert {"full", "constant", "resampler", "kv-prefix", "latent-thoughts", "c2c", "linear"} <= named.keys()
    twins = {random_twin_of(name) for name in named} & named.keys()
    methods = named.keys() - twins
    assert {random_twin_of(name) for name in methods - {"constant"}} == twins
    for name in methods - {"constant"}:
        twin = named[random_twin_of(name)]
        assert {**twin} == {**named[name], "source": "random:embedded:source"}
        assert tiny(**twin).replace(source="embedded:source") == tiny(**named[name])


def test_a_random_source_is_a_column_and_no_row(tmp_path: Path) -> None:
    for seed in (0, 1):
        for name, bridged in (
            ("full", "1111"),
            ("random_source", "1000"),
            ("c2c", "1110"),
            ("c2c-random_source", "1100"),
            ("constant", "1000"),
        ):
            finish(tmp_path, name, seed, bridged)
    rows = table(tmp_path, ["full", "c2c", "constant", "random_source", "c2c-random_source"], (0, 1))
    (found,) = tables(markdown(rows))
    assert list(found) == ["full", "c2c", "constant"]
    assert rows[1]["bridged_by_seed"] == [0.75, 0.75]
    assert found["full"]["random source"] == "25.0"
    assert found["c2c"]["random source"] == "50.0"
    assert found["full"]["− random source"].startswith("+75.0 [")
    assert found["c2c"]["− random source"].startswith("+25.0 [")
    assert found["c2c"]["− full"].startswith("-25.0 [")
    assert (found["constant"]["random source"], found["constant"]["− random source"]) == ("", "")


@pytest.mark.parametrize("names", [["full", "c2c", "random_source", "c2c-random_source", "soft_only-long"]])
def test_twins_run_after_all_other_jobs_and_long_jobs_first(names: list[str]) -> None:
    order = list(jobs(names, (0, 1)))
    assert order[:3] == [("soft_only-long", 0), ("full", 0), ("c2c", 0)]
    assert {name for name, _ in order[6:]} == {"random_source", "c2c-random_source"}
    assert len(order) == len(set(order)) == 2 * len(names)
