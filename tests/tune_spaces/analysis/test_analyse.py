"""The appendix' numbers: which comparisons are made, in which family, and what is recorded of them."""

from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bridge_common.files import read_jsonl, write_jsonl
from bridge_common.metric_names import CONDITIONS
from tests.support.made_samples import write_samples
from tune_spaces.analysis.analyse import Appendix, analyse
from tune_spaces.analysis.estimates import Cells
from tune_spaces.analysis.overview import overview
from tune_spaces.analysis.paired_tests import adjust
from tune_spaces.analysis.pairwise import compare_pairs, summarise
from tune_spaces.analysis.scored_trials import Trials, matrix, read_trials
from tune_spaces.analysis.toggle_effects import attribute
from tune_spaces.analysis.verdicts import verdict

TOGGLES = ("kl", "decode")
PLAN = {"full": ("kl", "decode"), "A": ("kl",), "B": ()}


def trials_of(folder: Path, rows: list[dict[str, Any]], items: int = 60, cluster: int = 1) -> Trials:
    """Read trials with random answers: variant, seed, toggles that are on, and further columns of each.

    Every `cluster` items in a row are one cluster.
    """
    rng = np.random.default_rng(1)
    table = []
    for number, row in enumerate(rows):
        rate, conditions = row.pop("rate", 0.6), row.pop("conditions", ("bridged", "target_alone", "shuffled_soft"))
        verdicts = {
            condition: rng.random(items) < (rate if condition == "bridged" else 0.3) for condition in conditions
        }
        path = write_samples(folder / f"{number}.jsonl", verdicts, invalid=range(0, items, 10))
        if cluster > 1:
            write_jsonl(path, [row | {"cluster": f"word {i // cluster}"} for i, row in enumerate(read_jsonl(path))])
        toggles = {toggle: toggle in row.get("on", ()) for toggle in TOGGLES}
        table.append(
            {"seed": 0, **{k: v for k, v in row.items() if k != "on"}, **toggles, "samples": f"{number}.jsonl"}
        )
    return read_trials(pd.DataFrame(table), TOGGLES, root=folder)


def plan(folder: Path, **changes: Any) -> Trials:
    return trials_of(folder, [{"variant": variant, "on": on, **changes} for variant, on in PLAN.items()])


def of(trials: Trials, **options: Any) -> Appendix:
    return analyse(trials, TOGGLES, **options)


def test_a_few_variants_are_all_compared_and_corrected_by_holm(tmp_path: Path) -> None:
    trials = plan(tmp_path)
    appendix = of(trials)
    cells = {name: matrix(group) for name, group in trials.variants().items()}
    assert [(pair.a, pair.b) for pair in appendix.pairs] == [("full", "A"), ("full", "B"), ("A", "B")]
    assert appendix.pairs == compare_pairs(cells, [("full", "A"), ("full", "B"), ("A", "B")])


def test_declared_and_few_pairs_are_corrected_by_holm_and_a_sweep_by_benjamini_and_hochberg(tmp_path: Path) -> None:
    rates = {"full": 0.9, "A": 0.65, "B": 0.7, **{f"v{i}": 0.6 + i / 50 for i in range(6)}}
    rows = [{"variant": name, "rate": rate, "K": i} for i, (name, rate) in enumerate(rates.items())]
    for count, correction in ((3, "holm"), (9, "fdr_bh")):
        trials = trials_of(tmp_path / str(count), [dict(row) for row in rows[:count]])
        found = of(trials)
        ps = [pair.p for pair in found.pairs]
        assert [pair.p_adjusted for pair in found.pairs] == pytest.approx(adjust(ps, correction))  # type: ignore[arg-type]
        assert adjust(ps, "holm") != pytest.approx(adjust(ps, "fdr_bh")), "else they could not be told apart"
    wanted = [("full", "A"), ("full", "B")]
    declared = of(trials, pairs=wanted).pairs
    assert [pair.p_adjusted for pair in declared] == pytest.approx(adjust([pair.p for pair in declared], "holm"))


def test_a_declared_pair_may_be_all_the_variants_that_there_are(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, [{"variant": "full", "on": ("kl",)}, {"variant": "A"}])
    assert [(pair.a, pair.b) for pair in of(trials, pairs=[("A", "full")]).pairs] == [("A", "full")]


def test_items_of_one_cluster_count_once_in_every_number(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"variant": name, "on": on, "soft_tokens": 64} for name, on in PLAN.items()]
    rows.append({"variant": "k8", "on": PLAN["full"], "soft_tokens": 8})
    trials = trials_of(tmp_path, rows, cluster=6)
    clusters = trials.clusters()
    assert clusters is not None
    appendix = of(trials)
    variants = trials.variants()
    cells = {name: matrix(group) for name, group in variants.items()}
    assert appendix.pairs == compare_pairs(cells, combinations(variants, 2), clusters=clusters)
    assert {pair.clusters for pair in appendix.pairs} == {10}
    assert {gain.clusters for gain in appendix.gains} == {10}
    assert {gain.test for gain in appendix.gains} == {"Student's t"}
    assert appendix.attribution == attribute(trials.cells(), TOGGLES, clusters=clusters)
    assert {row["clusters"] for row in [*appendix.outcomes, *appendix.by_soft_tokens]} == {10}
    assert [row["K"] for row in appendix.by_soft_tokens] == [8, 64]
    joint = Cells.of({"8": cells["k8"], "64": cells["full"]}, clusters)
    for row in appendix.by_soft_tokens:
        assert (row["low"], row["high"]) == joint.accuracy(str(row["K"]))


def test_declared_pairs_of_variants_that_ran_are_the_family(tmp_path: Path) -> None:
    trials = plan(tmp_path)
    appendix = of(trials, pairs=[("B", "full"), ("full", "absent")])
    assert [(pair.a, pair.b) for pair in appendix.pairs] == [("B", "full")]
    assert appendix.pairs[0].p_adjusted == appendix.pairs[0].p
    assert of(trials, pairs=[]).pairs == []


@pytest.mark.parametrize(("count", "sweep"), [(8, False), (9, True)])
def test_many_variants_are_a_sweep_against_the_reference(tmp_path: Path, count: int, sweep: bool) -> None:
    names = ["full", *(f"v{i}" for i in range(count - 1))]
    trials = trials_of(tmp_path, [{"variant": name, "on": ("kl",), "K": i} for i, name in enumerate(names)])
    appendix = of(trials)
    cells = {name: matrix(group) for name, group in trials.variants().items()}
    wanted = [("full", name) for name in names[1:]]
    if sweep:
        assert appendix.pairs == compare_pairs(cells, wanted, correction="fdr_bh")
    else:
        assert appendix.pairs == compare_pairs(cells, combinations(names, 2))


def test_gains_over_the_two_baselines_of_claims_are_one_family_and_the_others_a_sweep(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, [{"variant": "full", "on": PLAN["full"], "conditions": CONDITIONS}])
    appendix = of(trials)
    primary, others = ("target_alone", "shuffled_soft"), ("source_alone", "text_bridge", "random_soft")
    own = trials.variants()["full"]
    for family, correction in ((primary, "holm"), (others, "fdr_bh")):
        cells = {"full": matrix(own), **{name: matrix(own, name) for name in family}}
        expected = compare_pairs(cells, [("full", name) for name in family], correction=correction)  # type: ignore[arg-type]
        assert [gain for gain in appendix.gains if gain.b in family] == expected
    assert [gain.b for gain in appendix.gains] == [*primary, *others]


def test_a_condition_that_one_seed_lacks_is_left_out(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"variant": "full", "seed": 0}, {"variant": "full", "seed": 1}]
    rows[1]["conditions"] = ("bridged", "shuffled_soft")
    appendix = of(trials_of(tmp_path, rows))
    assert {gain.b for gain in appendix.gains} == {"shuffled_soft"}
    assert [row["condition"] for row in appendix.outcomes] == ["bridged", "shuffled_soft"]


def test_outcomes_have_the_intervals_of_their_cells(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"variant": "full", "seed": seed, "on": PLAN["full"]} for seed in (0, 1, 2)]
    trials = trials_of(tmp_path, [*rows, {"variant": "B", "rate": 0.4}])
    outcomes = {(row["variant"], row["condition"]): row for row in of(trials).outcomes}
    assert list(outcomes) == [(v, c) for v in ("full", "B") for c in ("bridged", "target_alone", "shuffled_soft")]
    variants = trials.variants()
    cells = {str(key): matrix(variants[key[0]], key[1]) for key in outcomes}
    joint = Cells.of(cells, groups={str(key): key[1] for key in outcomes})
    for key, row in outcomes.items():
        assert (row["low"], row["high"]) == joint.accuracy(str(key))
        assert row["accuracy"] == float(cells[str(key)].mean())
        assert (row["runs"], row["n"], row["clusters"]) == (3 if key[0] == "full" else 1, 60, 60)
    invalid = [trial.samples.conditions["bridged"].invalid for trial in variants["full"]]
    assert outcomes["full", "bridged"]["invalid"] == sum(invalid)
    assert all(invalid)


def test_variants_with_other_models_are_compared_by_their_gains(tmp_path: Path) -> None:
    conditions = ("bridged", "target_alone")
    rows: list[dict[str, Any]] = [
        {"variant": name, "source": source, "target": "t", "conditions": conditions}
        for name, source in (("full", "a"), ("A", "a"), ("swap", "b"))
    ]
    trials = trials_of(tmp_path, rows)
    assert {(pair.a, pair.b): pair.quantity for pair in of(trials).pairs} == {
        ("full", "A"): "accuracy",
        ("full", "swap"): "gain",
        ("A", "swap"): "gain",
    }
    variants = trials.variants()
    cells = {name: matrix(group) for name, group in variants.items()}
    cells |= {f"{name} alone": matrix(group, "target_alone") for name, group in variants.items()}
    weights = {"full": 1.0, "full alone": -1.0, "swap": -1.0, "swap alone": 1.0}
    gain = next(pair for pair in of(trials).pairs if (pair.a, pair.b) == ("full", "swap"))
    effect = Cells.of(cells).contrast(weights)
    assert (gain.difference, gain.ci_low, gain.p) == pytest.approx((effect.estimate, effect.low, effect.p))
    rows = [{"variant": name, "source": name, "conditions": ("bridged",)} for name in ("full", "swap")]
    assert of(trials_of(tmp_path / "b", rows)).pairs == [], "without a baseline there is no common scale"


def test_variants_of_another_task_are_compared_by_their_gains(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"variant": task, "source": "s", "target": "t", "task": task, "conditions": ("bridged", "target_alone")}
        for task in ("gsm8k", "of_my_own")
    ]
    assert [pair.quantity for pair in of(trials_of(tmp_path, rows)).pairs] == ["gain"]


def test_a_declared_margin_is_tested(tmp_path: Path) -> None:
    assert {pair.margin for pair in of(plan(tmp_path / "a"), margin=0.9).pairs} == {0.9}
    assert all(pair.equivalent for pair in of(plan(tmp_path / "a"), margin=0.9).pairs)
    assert {pair.equivalent for pair in of(plan(tmp_path / "a")).pairs} == {None}


def test_the_plans_questions_are_answered_by_its_pairs(tmp_path: Path) -> None:
    appendix = of(plan(tmp_path), asks=[("Does A matter?", "A", "full")])
    (line,) = appendix.answers
    assert line.startswith("Does A matter? ")
    assert "accuracy of A against full" in line
    assert of(plan(tmp_path)).answers == []


def test_the_plans_questions_are_a_family_of_their_own_before_all_other_pairs(tmp_path: Path) -> None:
    appendix = of(plan(tmp_path), asks=[("Does A matter?", "A", "full")])
    assert [(pair.a, pair.b) for pair in appendix.pairs] == [("A", "full"), ("full", "B"), ("A", "B")]
    asked, *others = appendix.pairs
    assert (asked.asked, asked.comparisons, asked.p_adjusted) == (True, 1, asked.p)
    assert [(pair.asked, pair.comparisons) for pair in others] == [(False, 2)] * 2
    assert [pair.p_adjusted for pair in others] == adjust([pair.p for pair in others])
    assert [one.pair for one in appendix.asked] == [asked]


def test_an_answer_and_the_claim_of_its_pair_never_differ(tmp_path: Path) -> None:
    """Replicates that differ by as much as the effect: neither the answer nor the claim says that it was shown."""
    rows: list[dict[str, Any]] = [{"variant": "full", "rate": 0.8}, {"variant": "B", "rate": 0.6}]
    for further, shown in (([], True), ([{"variant": "C", "rate": 0.3}, {"variant": "C", "seed": 1}], False)):
        trials = trials_of(tmp_path / str(shown), [*map(dict, rows), *map(dict, further)], items=400)  # type: ignore[arg-type]
        appendix = analyse(trials, asks=[("Does it help?", "full", "B")])
        claimed = any(line.startswith("full against B") for line in appendix.claims.supported)
        assert ("Shown, higher" in appendix.answers[0]) is claimed is appendix.pairs[0].shown is shown
        assert overview(appendix)[1].difference.shown is shown  # type: ignore[union-attr]


def test_effects_are_those_of_the_cells_with_the_plans_family(tmp_path: Path) -> None:
    trials = plan(tmp_path)
    appendix = of(trials)
    assert appendix.attribution == attribute(trials.cells(), TOGGLES)
    swept = of(trials, family=())
    assert swept.attribution == attribute(trials.cells(), TOGGLES, family=())
    assert analyse(trials).attribution is None
    assert analyse(trials).effects() == []


def test_rows_of_effects_have_their_status_and_the_noise_floor(tmp_path: Path) -> None:
    rows = [{"variant": name, "on": on} for name, on in PLAN.items()] + [{"variant": "B", "seed": 1}]
    appendix = of(trials_of(tmp_path, rows))
    assert appendix.attribution is not None
    assert appendix.noise_floor == appendix.attribution.noise_floor
    assert appendix.noise_floor is not None
    table = appendix.effects()
    assert len(table) == len(appendix.attribution.effects)
    for row, effect in zip(table, appendix.attribution.effects, strict=True):
        names = {"toggles": " + ".join(effect.toggles), "given": " + ".join(effect.given)}
        status = {"status": "estimated" if effect.ran else "not run", "noise_floor": appendix.noise_floor.typical}
        shown = {"shown": effect.shown(appendix.noise_floor) if effect.ran else None}
        assert row == {**asdict(effect), **names, **status, **shown}
    assert {row["status"] for row in table} == {"estimated", "not run"}
    assert any(" + " in row["toggles"] for row in table)
    assert {row["noise_floor"] for row in of(plan(tmp_path / "x")).effects()} == {None}


def test_an_effect_that_replicates_exceed_is_not_shown_in_its_row(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"variant": "full", "on": PLAN["full"], "rate": 0.9}, {"variant": "B", "rate": 0.2}]
    apart = of(trials_of(tmp_path / "a", [dict(row) for row in rows], items=400)).effects()
    joint = next(row for row in apart if row["toggles"] == "kl + decode" and row["kind"] == "joint")
    assert joint["shown"] is True
    far = [*rows, {"variant": "B", "seed": 1, "rate": 1.0}]
    appendix = of(trials_of(tmp_path / "b", far, items=400))
    assert appendix.attribution is not None
    assert {row["shown"] for row in appendix.effects() if row["status"] == "estimated"} == {False}


def test_variants_of_one_configuration_are_replicates_of_it(tmp_path: Path) -> None:
    """Two names of one set of toggles under two seeds: the noise floor is of the configuration."""
    rows = [{"variant": "full", "on": PLAN["full"]}, {"variant": "again", "on": PLAN["full"], "seed": 1}]
    trials = trials_of(tmp_path, rows)
    floor = of(trials).noise_floor
    assert floor is not None
    accuracies = trials.cells()[frozenset(TOGGLES)].mean(axis=1)
    assert floor.largest == pytest.approx(abs(accuracies[0] - accuracies[1]))
    assert analyse(trials).noise_floor is None, "without toggles they are two variants"


def test_a_row_names_all_toggles_that_are_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    toggles, table = ("a", "b", "c"), []
    for number in range(4):
        write_samples(tmp_path / f"{number}.jsonl", {"bridged": rng.random(40) < 0.5})
        on = {toggle: toggle in toggles[:number] for toggle in toggles}
        table.append(
            {"variant": "full" if number == 3 else f"v{number}", "seed": 0, **on, "samples": f"{number}.jsonl"}
        )
    rows = analyse(read_trials(pd.DataFrame(table), toggles, root=tmp_path), toggles).effects()
    given = {(row["kind"], row["toggles"]): row["given"] for row in rows if row["status"] == "estimated"}
    assert given["leave_one_out", "c"] == "a + b"
    assert given["add_one_in", "a"] == ""


def test_a_baseline_keeps_its_name_beside_a_variant_with_spaces(tmp_path: Path) -> None:
    appendix = of(trials_of(tmp_path, [{"variant": "my full run", "on": PLAN["full"]}]))
    assert [(gain.a, gain.b) for gain in appendix.gains] == [
        ("my full run", "target_alone"),
        ("my full run", "shuffled_soft"),
    ]


def test_without_toggles_the_noise_floor_is_that_of_seeds(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, [{"variant": "full", "seed": 0}, {"variant": "full", "seed": 1}, {"variant": "B"}])
    floor = analyse(trials).noise_floor
    accuracies = matrix(trials.variants()["full"]).mean(axis=1)
    assert floor is not None
    assert floor.largest == pytest.approx(abs(accuracies[0] - accuracies[1]))
    assert floor.pairs == 1


def test_accuracy_by_soft_tokens_has_the_cache_that_is_saved(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"variant": "full", "soft_tokens": 64, "kv_saved": 0.5},
        {"variant": "k8", "soft_tokens": 8, "kv_saved": 0.8},
        {"variant": "k8", "seed": 1, "soft_tokens": 8, "kv_saved": 0.9},
        {"variant": "k4", "soft_tokens": 4, "kv_saved": None},
    ]
    trials = trials_of(tmp_path, rows)
    four, eight, full = of(trials).by_soft_tokens
    assert [row["K"] for row in (four, eight, full)] == [4, 8, 64]
    assert (four["saved"], eight["saved"], full["saved"]) == (None, pytest.approx(0.85), 0.5)
    assert (eight["runs"], full["runs"]) == (2, 1)
    assert full["accuracy"] == float(matrix(trials.variants()["full"]).mean())
    assert of(plan(tmp_path / "one", soft_tokens=64)).by_soft_tokens == []


def test_changed_items_are_those_of_the_reference_against_each_other_variant(tmp_path: Path) -> None:
    trials = plan(tmp_path)
    changed = of(trials).changed
    assert {(row["a"], row["b"]) for row in changed} == {("full", "A"), ("full", "B")}
    variants = trials.variants()
    for name in ("A", "B"):
        differing = int((matrix(variants["full"]) != matrix(variants[name])).sum())
        assert sum(row["b"] == name for row in changed) == differing


def test_the_comparison_names_seeds_only_if_a_variant_has_several(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"variant": "full", "seed": 0}, {"variant": "full", "seed": 1}, {"variant": "B"}]
    appendix = of(trials_of(tmp_path, rows))
    comparison = appendix.comparison()
    assert list(comparison.runs) == ["full (seed 0)", "full (seed 1)", "B"]
    assert comparison.runs["B"] == summarise(appendix.trials.variants()["B"][0].samples)
    assert comparison.pairs == appendix.pairs
    assert comparison.verdict == [verdict(pair) for pair in appendix.pairs]


def test_the_appendix_as_json_holds_all_of_it(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"variant": "full", "seed": 0}, {"variant": "full", "seed": 1}, {"variant": "B"}]
    trials = trials_of(tmp_path, rows)
    trials.without_samples.append("C (seed 0)")
    trials.apart.append(trials.compared[2])
    appendix = of(trials)
    found = appendix.as_json()
    assert {name: found.pop(name) for name in ("runs", "pairs", "verdict")} == appendix.comparison().as_json()
    assert appendix.noise_floor is not None
    assert found == {
        "reference": "full",
        "answers": [],
        "outcomes": appendix.outcomes,
        "gains": [asdict(gain) for gain in appendix.gains],
        "controls": asdict(appendix.controls),
        "effects": appendix.effects(),
        "noise_floor": asdict(appendix.noise_floor),
        "by_soft_tokens": [],
        "compression": [],
        "groups": [],
        "costs": [],
        "claims": appendix.claims.as_json(),
        "not_compared": ["B (seed 0)"],
        "without_samples": ["C (seed 0)"],
    }
    assert of(plan(tmp_path / "one")).as_json()["noise_floor"] is None


def test_controls_have_rows_of_costs(tmp_path: Path) -> None:
    rows = [{"variant": name, "K": i, "cost/flops/bridged": 10.0 + i} for i, name in enumerate(("full", "constant"))]
    appendix = analyse(trials_of(tmp_path, rows), controls=["constant"])
    assert [(row["variant"], row["flops"]) for row in appendix.costs] == [("full", 10.0), ("constant", 11.0)]
    assert appendix.pairs == []
