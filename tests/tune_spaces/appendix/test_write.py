"""The appendix from a made campaign: what is written, what is claimed, and what is left open."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bridge_common.errors import UserError
from bridge_common.files import read_jsonl, write_jsonl
from bridge_common.metric_names import CONDITIONS
from tune_spaces.analysis.analyse import Appendix, analyse
from tune_spaces.analysis.scored_trials import read_trials
from tune_spaces.analysis.verdicts import verdict
from tune_spaces.appendix.write import gate_points, write_appendix

TOGGLES = ("kl_alignment", "prompt_alignment", "decode_aware", "geometry_projection")
ITEMS = 600
PLAN = {"full": TOGGLES, "A": TOGGLES[:1], "B": TOGGLES[:1], "C": TOGGLES[:3]}


def write_samples(path: Path, correct: dict[str, np.ndarray], first: int = 0) -> Path:
    """A sample file as the job writes it; texts hold what would break a table or a fence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for i in range(len(correct["bridged"])):
            row: dict[str, Any] = {"id": f"made-{first + i:05d}", "index": first + i, "gold": str(i % 50)}
            row["question"] = f"How many | pipes\nare in ```code``` number {i}?"
            for condition, flags in correct.items():
                answer = str(i % 50) if flags[i] else None
                row |= {f"{condition}_output": f"#### {answer}", f"{condition}_answer": answer}
                row |= {f"{condition}_correct": bool(flags[i]), f"{condition}_valid": answer is not None}
            file.write(json.dumps(row) + "\n")
    return path


class Campaign:
    """Sample files and the tidy table of their trials, with accuracies that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, []
        self.rng = np.random.default_rng(0)
        self.difficulty = self.rng.beta(1.3, 0.7, ITEMS)
        self.alone = self.rng.random(ITEMS) < np.clip(self.difficulty - 0.15, 0, 1)

    def draw(self, shift: float) -> np.ndarray:
        return self.rng.random(ITEMS) < np.clip(self.difficulty + shift, 0, 1)

    def run(self, variant: str, on: tuple[str, ...], seed: int, shift: float, **settings: Any) -> None:
        bridged = self.draw(shift)
        conditions = {"bridged": bridged, "target_alone": self.alone, "shuffled_soft": self.draw(-0.25)}
        name = f"trials/{variant}-{seed}/samples.jsonl"
        write_samples(self.folder / name, conditions)
        toggles = {toggle: toggle in on for toggle in TOGGLES}
        accuracy = float(bridged.mean())
        row = {"variant": variant, "seed": seed, **toggles, "soft_tokens": 64, "accuracy/bridged": accuracy}
        self.rows.append({**row, "samples": name, **settings})

    def plan(self, value: Callable[[str], float]) -> "Campaign":
        for variant, on in PLAN.items():
            self.run(variant, on, seed=int(variant == "A"), shift=value(variant))
        return self

    def appendix(self, **options: Any) -> Appendix:
        trials = read_trials(pd.DataFrame(self.rows), TOGGLES, root=self.folder)
        return analyse(trials, TOGGLES, **options)


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path)


def test_files_and_what_stands_in_them(campaign: Campaign, tmp_path: Path) -> None:
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


def test_the_gate_is_drawn_with_the_interval_that_it_decided_on(campaign: Campaign) -> None:
    """The appendix has other intervals of the same runs, in which seeds and the level differ."""
    appendix = campaign.plan(lambda variant: 0.0).appendix()
    decision = {"accuracy": 0.69, "low": 0.6, "high": 0.77, "runs": 2, "uncertain": True}
    first, second, *_ = gate_points(appendix, decision)
    assert (first["label"], first["accuracy"], first["low"], first["high"]) == ("as decided", 0.69, 0.6, 0.77)
    assert second["label"] == "full"
    assert [row["label"] for row in gate_points(appendix, {"accuracy": 0.6})] == ["full", "A", "B", "C"]


def test_a_pair_and_the_effect_of_the_same_runs_have_one_interval_with_clusters(campaign: Campaign) -> None:
    """A repeats B under another seed; full and C ran once."""
    appendix = campaign.plan(lambda variant: 0.0 if variant == "C" else 0.3).appendix()
    for row in campaign.rows:
        path = campaign.folder / row["samples"]
        write_jsonl(path, [line | {"cluster": f"c{i // 4}"} for i, line in enumerate(read_jsonl(path))])
    appendix = campaign.appendix()
    pair = next(one for one in appendix.pairs if (one.a, one.b) == ("full", "C"))
    assert appendix.attribution is not None
    effect = next(e for e in appendix.attribution.effects if e.toggles == ("geometry_projection",) and e.ran)
    assert (effect.low, effect.high, effect.p) == (pair.ci_low, pair.ci_high, pair.p)
    assert pair.shown
    assert any(
        "geometry_projection" in line and "between the trained runs" in line for line in appendix.claims.supported
    )


def test_noise_floor_is_the_replicates_difference(campaign: Campaign) -> None:
    appendix = campaign.plan(lambda variant: 0.0).appendix()
    a, b = campaign.rows[1]["accuracy/bridged"], campaign.rows[2]["accuracy/bridged"]
    assert appendix.noise_floor is not None
    assert (appendix.noise_floor.typical, appendix.noise_floor.largest) == pytest.approx((abs(a - b), abs(a - b)))
    assert all(row["noise_floor"] == pytest.approx(abs(a - b)) for row in appendix.effects())


def test_no_difference_is_claimed_where_only_chance_differs(campaign: Campaign) -> None:
    claims = campaign.plan(lambda variant: 0.0).appendix().claims
    supported = " ".join(claims.supported)
    assert "against" not in supported
    assert "raises" not in supported
    assert sum("no difference was shown" in sentence for sentence in claims.not_supported) == 6
    assert any(
        sentence.startswith("Not run, so no effect can be estimated: kl_alignment") for sentence in claims.not_supported
    )
    assert any("the bridge adds to what the target does alone" in sentence for sentence in claims.supported)


def test_a_difference_within_the_noise_floor_is_no_finding(campaign: Campaign) -> None:
    campaign.plan(lambda variant: {"A": -0.3, "full": 0.12}.get(variant, 0.0))
    claims = campaign.appendix().claims
    within = [sentence for sentence in claims.not_supported if "does not exceed what two runs of one" in sentence]
    assert any(sentence.startswith("full against C: no finding") for sentence in within)
    assert not any(sentence.startswith("full against C") for sentence in claims.supported)


def test_without_replicates_the_floor_is_said_to_be_unknown(campaign: Campaign) -> None:
    campaign.run("full", TOGGLES, 0, 0.1)
    campaign.run("C", TOGGLES[:3], 0, -0.2)
    appendix = campaign.appendix()
    assert appendix.noise_floor is None
    assert any("noise floor is not known" in sentence for sentence in appendix.claims.not_supported)


def test_an_information_that_is_not_there_is_not_claimed(campaign: Campaign, tmp_path: Path) -> None:
    bridged = campaign.draw(0.0)
    conditions = {"bridged": bridged, "target_alone": bridged, "shuffled_soft": campaign.draw(0.0)}
    write_samples(tmp_path / "s.jsonl", conditions)
    row = {"variant": "full", "seed": 0, **dict.fromkeys(TOGGLES, True), "samples": "s.jsonl"}
    appendix = analyse(read_trials(pd.DataFrame([row]), TOGGLES, root=tmp_path), TOGGLES)
    assert any("that the soft tokens carry information" in sentence for sentence in appendix.claims.not_supported)
    assert any("that the bridge adds" in sentence for sentence in appendix.claims.not_supported)
    assert appendix.claims.supported == []


def test_changed_items_are_all_in_the_table_and_bounded_in_the_text(campaign: Campaign, tmp_path: Path) -> None:
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


def test_what_models_write_is_neither_a_formula_nor_a_code_nor_markup(campaign: Campaign, tmp_path: Path) -> None:
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


def test_full_factorial_with_seeds(campaign: Campaign, tmp_path: Path) -> None:
    for bits in range(4):
        on = tuple(toggle for place, toggle in enumerate(TOGGLES[:2]) if bits >> place & 1)
        for seed in range(3):
            campaign.run("full" if bits == 3 else f"v{bits}", on, seed, 0.1 * (TOGGLES[0] in on))
    appendix = campaign.appendix()
    assert appendix.attribution is not None
    shapley = [e for e in appendix.attribution.effects if e.kind == "shapley" and e.estimate is not None]
    total = sum(e.estimate for e in shapley if e.estimate is not None)
    by_variant = pd.DataFrame(campaign.rows).groupby("variant")["accuracy/bridged"].mean()
    assert total == pytest.approx(by_variant["full"] - by_variant["v0"])
    text = write_appendix(tmp_path / "out", appendix)["appendix.md"].read_text(encoding="utf-8")
    assert "The Shapley values sum to" in text
    assert "decode_aware off, geometry_projection off" in text
    assert "full (seed 2)" in appendix.comparison().runs


def test_effects_only_use_trials_that_agree_in_everything_else(campaign: Campaign, tmp_path: Path) -> None:
    campaign.plan(lambda variant: 0.0)
    for k, saved in ((128, 0.9), (256, 0.8)):
        campaign.run(f"k{k}", TOGGLES, 0, 0.3, soft_tokens=k, kv_saved=saved)
    campaign.run("no-decode", (TOGGLES[0], TOGGLES[1], TOGGLES[3]), 0, 0.0, soft_tokens=128)
    appendix = campaign.appendix()
    decode = next(e for e in appendix.effects() if e["kind"] == "leave_one_out" and e["toggles"] == "decode_aware")
    assert decode["status"] == "not run"
    assert [row["K"] for row in appendix.by_soft_tokens] == [64, 128, 256]
    assert [row["saved"] for row in appendix.by_soft_tokens] == [None, 0.9, 0.8]
    assert "soft_tokens.png" in write_appendix(tmp_path / "out", appendix)


def test_a_sweep_is_compared_with_the_reference_alone(campaign: Campaign) -> None:
    campaign.run("full", TOGGLES, 0, 0.0)
    for number in range(9):
        campaign.run(f"lr{number}", TOGGLES, 0, 0.0)
    appendix = campaign.appendix()
    assert [(pair.a, pair.b) for pair in appendix.pairs] == [("full", f"lr{number}") for number in range(9)]


def test_other_items_and_unfinished_trials_are_named_not_dropped(campaign: Campaign, tmp_path: Path) -> None:
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
    campaign: Campaign, tmp_path: Path
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


def test_refuses_tables_it_cannot_read(campaign: Campaign, tmp_path: Path) -> None:
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


def test_equal_trials_give_equal_bytes(campaign: Campaign, tmp_path: Path) -> None:
    campaign.plan(lambda variant: 0.0)
    first = write_appendix(tmp_path / "1", campaign.appendix())
    second = write_appendix(tmp_path / "2", campaign.appendix())
    assert {name: path.read_bytes() for name, path in first.items()} == {
        name: path.read_bytes() for name, path in second.items()
    }


def test_one_name_for_two_configurations_is_numbered(campaign: Campaign) -> None:
    campaign.run("full", TOGGLES, 0, 0.0)
    campaign.run("full", TOGGLES, 1, 0.0)
    campaign.run("full", TOGGLES, 0, 0.2, soft_tokens=128)
    variants = campaign.appendix().trials.variants()
    assert {name: len(trials) for name, trials in variants.items()} == {"full": 2, "full #2": 1}


def test_a_second_run_under_the_same_seed_is_no_replicate(campaign: Campaign) -> None:
    campaign.run("B", TOGGLES[:1], 0, 0.0)
    campaign.run("again", TOGGLES[:1], 0, 0.1)
    assert campaign.appendix().noise_floor is None


def test_only_declared_pairs_are_a_family(campaign: Campaign) -> None:
    appendix = campaign.plan(lambda variant: 0.0).appendix(pairs=[("full", "B"), ("full", "C"), ("full", "never ran")])
    assert [(pair.a, pair.b) for pair in appendix.pairs] == [("full", "B"), ("full", "C")]
    smallest = min(pair.p for pair in appendix.pairs)
    assert min(pair.p_adjusted for pair in appendix.pairs) == pytest.approx(min(1, 2 * smallest))


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


def test_variants_with_other_models_are_compared_by_their_gains(campaign: Campaign) -> None:
    """A target that solves everything by itself makes no translator more accurate."""
    campaign.run("full", TOGGLES, 0, 0.0, source="mistral", target="llama")
    campaign.run("C", TOGGLES[:3], 0, 0.0, source="mistral", target="llama")
    campaign.alone = np.ones(ITEMS, bool)
    campaign.run("swap", TOGGLES, 0, 1.0, source="llama", target="mistral")
    pairs = {(pair.a, pair.b): pair for pair in campaign.appendix(margin=0.05).pairs}
    assert pairs["full", "C"].quantity == "accuracy"
    swapped = pairs["full", "swap"]
    assert (swapped.quantity, swapped.test) == ("gain", "Student's t")
    alone = float(campaign.rows[2]["accuracy/bridged"]) - 1.0
    assert swapped.accuracy_b == pytest.approx(alone)
    assert swapped.difference == pytest.approx(swapped.accuracy_a - alone)
    assert "more accurate" not in verdict(swapped)
    assert "gains over the target alone" in verdict(swapped)


def test_clusters_of_the_samples_reach_every_estimate(campaign: Campaign) -> None:
    campaign.plan(lambda variant: 0.05 if variant == "full" else 0.0)
    alone = campaign.appendix()
    for row in campaign.rows:
        path = campaign.folder / row["samples"]
        rows = [json.loads(line) | {"cluster": f"template {i % 12}"} for i, line in enumerate(path.open())]
        path.write_text("".join(json.dumps(line) + "\n" for line in rows))
    clustered = campaign.appendix()
    assert {pair.clusters for pair in clustered.pairs} == {12}
    assert {pair.test for pair in clustered.pairs} == {"Student's t"}
    assert "n = 600 in 12 clusters" in verdict(clustered.pairs[0])
    assert {row["clusters"] for row in clustered.outcomes} == {12}
    assert clustered.pairs[0].ci_low != alone.pairs[0].ci_low
    assert clustered.attribution is not None
    assert all(effect.test == "Student's t" for effect in clustered.attribution.effects if effect.ran)


@pytest.mark.parametrize(("margin", "equivalent"), [(None, None), (0.001, False), (0.2, True)])
def test_a_declared_margin_is_tested(campaign: Campaign, margin: float | None, equivalent: bool | None) -> None:
    pair = campaign.plan(lambda variant: 0.0).appendix(margin=margin).pairs[0]
    assert (pair.margin, pair.equivalent) == (margin, equivalent)
    sentence = verdict(pair)
    assert f"differences beyond {100 * pair.largest:.1f} points are excluded" in sentence
    assert ("equivalent within the declared margin" in sentence) is (margin is not None)
    assert ("not shown to be equivalent" in sentence) is (equivalent is False)


def test_the_first_table_has_one_row_a_variant(campaign: Campaign, tmp_path: Path) -> None:
    appendix = campaign.plan(lambda variant: -0.2 if variant in ("A", "B") else 0.0).appendix()
    text = write_appendix(tmp_path / "out", appendix)["appendix.md"].read_text()
    table = text.split("| variant | runs | bridged, % | gain, points | − full, points |")[1].split("\n\n")[0]
    rows = [line.split(" | ") for line in table.strip().splitlines()[1:]]
    assert [row[0].strip("| ") for row in rows] == ["full", "A", "B", "C"]
    assert rows[0][-1].startswith("reference")
    assert rows[2][-1].startswith("-")
    assert "*" in rows[2][-1]
    assert all(len(line) <= 80 for line in table.splitlines())


def test_what_was_not_run_is_one_line_a_kind(campaign: Campaign, tmp_path: Path) -> None:
    appendix = campaign.plan(lambda variant: 0.0).appendix()
    text = write_appendix(tmp_path / "out", appendix)["appendix.md"].read_text()
    shapley = text.split("### Shapley")[1].split("###")[0].split("## ")[0]
    assert shapley.count("*not run*") == 1
    assert all(toggle in shapley for toggle in TOGGLES)
