"""The appendix from a made campaign: what is written, and what stands in its files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bridge_common.errors import UserError
from bridge_common.metric_names import CONDITIONS
from tests.support.written_campaign import ITEMS, PLAN, TOGGLES, WrittenCampaign, write_samples
from tune_spaces.analysis.analyse import analyse
from tune_spaces.analysis.scored_trials import read_trials
from tune_spaces.appendix.write import gate_points, write_appendix


def test_files_and_what_stands_in_them(campaign: WrittenCampaign, tmp_path: Path) -> None:
    appendix = campaign.plan(lambda variant: {"full": 0.12, "C": 0.0}.get(variant, -0.02)).appendix()
    curves = {name: [(range(10), np.linspace(0.3, 0.6, 10))] for name in PLAN}
    gate = {"settings": {"passes": 0.7, "attribute": 0.65}, "branch": "attribute_all", "uncertain": True}
    paths = write_appendix(tmp_path / "out", appendix, curves=curves, gate=gate)
    names = {"appendix.md", "appendix.json", "effects.csv", "effects.parquet", "pairs.csv", "changed_items.csv"}
    assert set(paths) == names | {"effects.png", "pairs.png", "curves.png", "gate.png"}
    assert all(path.stat().st_size > 0 for path in paths.values())

    effects = pd.read_csv(paths["effects.csv"])
    parquet = pd.read_parquet(paths["effects.parquet"])
    assert parquet["estimate"].tolist() == pytest.approx(effects["estimate"].tolist(), nan_ok=True)
    projection = effects[(effects.kind == "leave_one_out") & (effects.toggles == "geometry_projection")].iloc[0]
    assert projection["status"] == "estimated"
    assert projection["shown"]
    full, c = (float(np.mean(frame_row["accuracy/bridged"])) for frame_row in (campaign.rows[0], campaign.rows[3]))
    assert projection["estimate"] == pytest.approx(full - c)
    assert effects[effects.status == "not run"]["estimate"].isna().all()
    assert {"shapley", "leave_one_out", "add_one_in"} <= set(effects[effects.status == "not run"].kind)

    pairs = pd.read_csv(paths["pairs.csv"])
    assert len(pairs[pairs.family == "variants"]) == 6
    gains = pairs[(pairs.family == "baselines") & (pairs.a == "full")]
    assert set(gains.b) == {"target_alone", "shuffled_soft"}
    text = paths["appendix.md"].read_text(encoding="utf-8")
    for picture in ("effects.png", "pairs.png", "curves.png", "gate.png"):
        assert f"({picture})" in text
    found = json.loads(paths["appendix.json"].read_text(encoding="utf-8"))
    assert found["runs"]["full"]["n"] == ITEMS


def test_the_gate_is_drawn_with_the_interval_that_it_decided_on(campaign: WrittenCampaign) -> None:
    """The appendix has other intervals of the same runs, in which seeds and the level differ."""
    appendix = campaign.plan(lambda variant: 0.0).appendix()
    decision = {"accuracy": 0.69, "low": 0.6, "high": 0.77, "runs": 2, "uncertain": True}
    first, second, *_ = gate_points(appendix, decision)
    assert (first["label"], first["accuracy"], first["low"], first["high"]) == ("as decided", 0.69, 0.6, 0.77)
    assert second["label"] == "full"
    assert [row["label"] for row in gate_points(appendix, {"accuracy": 0.6})] == ["full", "A", "B", "C"]


def test_changed_items_are_all_in_the_table_and_bounded_in_the_text(campaign: WrittenCampaign, tmp_path: Path) -> None:
    appendix = campaign.plan(lambda variant: 0.05 * (variant == "full")).appendix()
    paths = write_appendix(tmp_path / "out", appendix, quoted=7)
    changed = pd.read_csv(paths["changed_items.csv"])
    by_pair = changed.groupby("b").size()
    for pair in appendix.pairs:
        if pair.a == "full":
            assert by_pair[pair.b] == pair.n10 + pair.n01
    first = changed.iloc[0]
    assert first["question"] == f"How many | pipes\nare in ```code``` number {int(first['id'].split('-')[1])}?"
    text = paths["appendix.md"].read_text(encoding="utf-8")
    assert text.count("Question:\n\n````text") == 7
    assert f"{len(changed)} items changed" in text


def test_what_models_write_is_neither_a_formula_nor_a_code_nor_markup(
    campaign: WrittenCampaign, tmp_path: Path
) -> None:
    appendix = campaign.plan(lambda variant: 0.05 * (variant == "full")).appendix()
    for row in appendix.changed:
        row |= {"output_a": "=1+1\x1b[31m", "answer_a": "<script>x\x1b", "answer_b": "-2"}
    paths = write_appendix(tmp_path / "out", appendix, quoted=1)
    changed = pd.read_csv(paths["changed_items.csv"])
    assert set(changed["output_a"]) == {"'=1+1\x1b[31m"}
    assert set(changed["answer_b"]) == {-2}, "a number stays one"
    text = paths["appendix.md"].read_text(encoding="utf-8")
    assert "full: &lt;script>x␛; " in text
    assert "=1+1␛[31m" in text
    assert "\x1b" not in text


def test_other_items_and_unfinished_trials_are_named_not_dropped(campaign: WrittenCampaign, tmp_path: Path) -> None:
    campaign.plan(lambda variant: 0.0)
    write_samples(tmp_path / "math.jsonl", {"bridged": np.ones(5, bool)}, first=9_000)
    extra = {"seed": 0, **dict.fromkeys(TOGGLES, True), "soft_tokens": 64}
    campaign.rows.append({"variant": "math", "samples": "math.jsonl", **extra})
    campaign.rows.append({"variant": "killed", "samples": None, **extra})
    appendix = campaign.appendix()
    assert [trial.variant for trial in appendix.trials.apart] == ["math"]
    text = write_appendix(tmp_path / "out", appendix)["appendix.md"].read_text(encoding="utf-8")
    assert "On other items, so not compared: math (seed 0)." in text
    assert "Without samples: killed (seed 0)." in text


def test_of_several_sets_of_items_the_one_that_most_trials_share_is_compared(
    campaign: WrittenCampaign, tmp_path: Path
) -> None:
    """The first of equals; trials of other variants count, but a set without the reference cannot be chosen."""
    sets = {}
    for name, first, items in (("short", 0, 5), ("test", 0, 9), ("other", 9_000, 9)):
        sets[name] = str(write_samples(tmp_path / f"{name}.jsonl", {"bridged": np.ones(items, bool)}, first=first))

    def compared(*rows: tuple[str, str]) -> tuple[list[str], list[str]]:
        frame = pd.DataFrame(
            [
                {"variant": variant, "seed": seed, **dict.fromkeys(TOGGLES, True), "samples": sets[name]}
                for seed, (variant, name) in enumerate(rows)
            ]
        )
        trials = read_trials(frame, TOGGLES)
        return [trial.name for trial in trials.compared], [trial.name for trial in trials.apart]

    short, test = ("full", "short"), ("full", "test")
    assert compared(short, test) == (["full (seed 0)"], ["full (seed 1)"])
    assert compared(short, test, ("C", "test")) == (["full (seed 1)", "C (seed 2)"], ["full (seed 0)"])
    others = [("C", "other")] * 3
    assert compared(*others, short)[0] == ["full (seed 3)"]


def test_refuses_tables_it_cannot_read(campaign: WrittenCampaign, tmp_path: Path) -> None:
    campaign.run("full", TOGGLES, 0, 0.0)
    frame = pd.DataFrame(campaign.rows)
    with pytest.raises(UserError, match="decode_aware"):
        read_trials(frame.drop(columns="decode_aware"), TOGGLES, root=tmp_path)
    with pytest.raises(UserError, match=r"full \(seed 0\).*decode_aware.*perhaps"):
        read_trials(frame.assign(decode_aware="perhaps"), TOGGLES, root=tmp_path)
    with pytest.raises(UserError, match="no trial has samples"):
        read_trials(frame.assign(samples=None), TOGGLES, root=tmp_path)
    words = read_trials(frame.assign(decode_aware="off"), TOGGLES, root=tmp_path)
    assert "decode_aware" not in words.compared[0].on


def test_equal_trials_give_equal_bytes(campaign: WrittenCampaign, tmp_path: Path) -> None:
    campaign.plan(lambda variant: 0.0)
    first = write_appendix(tmp_path / "1", campaign.appendix())
    second = write_appendix(tmp_path / "2", campaign.appendix())
    assert {name: path.read_bytes() for name, path in first.items()} == {
        name: path.read_bytes() for name, path in second.items()
    }


def test_one_name_for_two_configurations_is_numbered(campaign: WrittenCampaign) -> None:
    campaign.run("full", TOGGLES, 0, 0.0)
    campaign.run("full", TOGGLES, 1, 0.0)
    campaign.run("full", TOGGLES, 0, 0.2, soft_tokens=128)
    variants = campaign.appendix().trials.variants()
    assert {name: len(trials) for name, trials in variants.items()} == {"full": 2, "full #2": 1}


@pytest.mark.slow
def test_two_hundred_trials_of_a_whole_test_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        write_samples(tmp_path / f"{number}.jsonl", {name: rng.random(1_319) < 0.65 for name in CONDITIONS})
    rows = [
        {
            "variant": "full" if trial % 16 == 15 else f"v{trial % 16}",
            "seed": trial // 16,
            **{toggle: bool(trial >> place & 1) for place, toggle in enumerate(TOGGLES)},
            "samples": f"{trial % 7}.jsonl",
        }
        for trial in range(200)
    ]
    appendix = analyse(read_trials(pd.DataFrame(rows), TOGGLES, root=tmp_path), TOGGLES)
    write_appendix(tmp_path / "out", appendix)
    assert sum(effect["status"] == "estimated" for effect in appendix.effects()) == 4 + 4 + 12 + 4


def test_the_first_table_has_one_row_a_variant(campaign: WrittenCampaign, tmp_path: Path) -> None:
    appendix = campaign.plan(lambda variant: -0.2 if variant in ("A", "B") else 0.0).appendix()
    text = write_appendix(tmp_path / "out", appendix)["appendix.md"].read_text()
    table = text.split("| variant | runs | bridged, % | gain, points | − full, points |")[1].split("\n\n")[0]
    rows = [line.split(" | ") for line in table.strip().splitlines()[1:]]
    assert [row[0].strip("| ") for row in rows] == ["full", "A", "B", "C"]
    assert rows[0][-1].startswith("reference")
    assert rows[2][-1].startswith("-")
    assert "*" in rows[2][-1]
    assert all(len(line) <= 80 for line in table.splitlines())


def test_what_was_not_run_is_one_line_a_kind(campaign: WrittenCampaign, tmp_path: Path) -> None:
    appendix = campaign.plan(lambda variant: 0.0).appendix()
    text = write_appendix(tmp_path / "out", appendix)["appendix.md"].read_text()
    shapley = text.split("### Shapley")[1].split("###")[0].split("## ")[0]
    assert shapley.count("*not run*") == 1
    assert all(toggle in shapley for toggle in TOGGLES)
