"""The appendix from a made campaign: what is estimated, what is claimed, and what is left open."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bridge_common.files import read_jsonl, write_jsonl
from tests.support.written_campaign import ITEMS, TOGGLES, WrittenCampaign, write_samples
from tune_spaces.analysis.analyse import analyse
from tune_spaces.analysis.scored_trials import read_trials
from tune_spaces.analysis.verdicts import verdict
from tune_spaces.appendix.write import write_appendix


def test_a_pair_and_the_effect_of_the_same_runs_have_one_interval_with_clusters(campaign: WrittenCampaign) -> None:
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


def test_noise_floor_is_the_replicates_difference(campaign: WrittenCampaign) -> None:
    appendix = campaign.plan(lambda variant: 0.0).appendix()
    a, b = campaign.rows[1]["accuracy/bridged"], campaign.rows[2]["accuracy/bridged"]
    assert appendix.noise_floor is not None
    assert (appendix.noise_floor.typical, appendix.noise_floor.largest) == pytest.approx((abs(a - b), abs(a - b)))
    assert all(row["noise_floor"] == pytest.approx(abs(a - b)) for row in appendix.effects())


def test_no_difference_is_claimed_where_only_chance_differs(campaign: WrittenCampaign) -> None:
    claims = campaign.plan(lambda variant: 0.0).appendix().claims
    supported = " ".join(claims.supported)
    assert "against" not in supported
    assert "raises" not in supported
    assert sum("no difference was shown" in sentence for sentence in claims.not_supported) == 6
    assert any(
        sentence.startswith("Not run, so no effect can be estimated: kl_alignment") for sentence in claims.not_supported
    )
    assert any("the bridge adds to what the target does alone" in sentence for sentence in claims.supported)


def test_a_difference_within_the_noise_floor_is_no_finding(campaign: WrittenCampaign) -> None:
    campaign.plan(lambda variant: {"A": -0.3, "full": 0.12}.get(variant, 0.0))
    claims = campaign.appendix().claims
    within = [sentence for sentence in claims.not_supported if "does not exceed what two runs of one" in sentence]
    assert any(sentence.startswith("full against C: no finding") for sentence in within)
    assert not any(sentence.startswith("full against C") for sentence in claims.supported)


def test_without_replicates_the_floor_is_said_to_be_unknown(campaign: WrittenCampaign) -> None:
    campaign.run("full", TOGGLES, 0, 0.1)
    campaign.run("C", TOGGLES[:3], 0, -0.2)
    appendix = campaign.appendix()
    assert appendix.noise_floor is None
    assert any("noise floor is not known" in sentence for sentence in appendix.claims.not_supported)


def test_an_information_that_is_not_there_is_not_claimed(campaign: WrittenCampaign, tmp_path: Path) -> None:
    bridged = campaign.draw(0.0)
    conditions = {"bridged": bridged, "target_alone": bridged, "shuffled_soft": campaign.draw(0.0)}
    write_samples(tmp_path / "s.jsonl", conditions)
    row = {"variant": "full", "seed": 0, **dict.fromkeys(TOGGLES, True), "samples": "s.jsonl"}
    appendix = analyse(read_trials(pd.DataFrame([row]), TOGGLES, root=tmp_path), TOGGLES)
    assert any("that the soft tokens carry information" in sentence for sentence in appendix.claims.not_supported)
    assert any("that the bridge adds" in sentence for sentence in appendix.claims.not_supported)
    assert appendix.claims.supported == []


def test_full_factorial_with_seeds(campaign: WrittenCampaign, tmp_path: Path) -> None:
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


def test_effects_only_use_trials_that_agree_in_everything_else(campaign: WrittenCampaign, tmp_path: Path) -> None:
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


def test_a_sweep_is_compared_with_the_reference_alone(campaign: WrittenCampaign) -> None:
    campaign.run("full", TOGGLES, 0, 0.0)
    for number in range(9):
        campaign.run(f"lr{number}", TOGGLES, 0, 0.0)
    appendix = campaign.appendix()
    assert [(pair.a, pair.b) for pair in appendix.pairs] == [("full", f"lr{number}") for number in range(9)]


def test_a_second_run_under_the_same_seed_is_no_replicate(campaign: WrittenCampaign) -> None:
    campaign.run("B", TOGGLES[:1], 0, 0.0)
    campaign.run("again", TOGGLES[:1], 0, 0.1)
    assert campaign.appendix().noise_floor is None


def test_only_declared_pairs_are_a_family(campaign: WrittenCampaign) -> None:
    appendix = campaign.plan(lambda variant: 0.0).appendix(pairs=[("full", "B"), ("full", "C"), ("full", "never ran")])
    assert [(pair.a, pair.b) for pair in appendix.pairs] == [("full", "B"), ("full", "C")]
    smallest = min(pair.p for pair in appendix.pairs)
    assert min(pair.p_adjusted for pair in appendix.pairs) == pytest.approx(min(1, 2 * smallest))


def test_variants_with_other_models_are_compared_by_their_gains(campaign: WrittenCampaign) -> None:
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


def test_clusters_of_the_samples_reach_every_estimate(campaign: WrittenCampaign) -> None:
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
def test_a_declared_margin_is_tested(campaign: WrittenCampaign, margin: float | None, equivalent: bool | None) -> None:
    pair = campaign.plan(lambda variant: 0.0).appendix(margin=margin).pairs[0]
    assert (pair.margin, pair.equivalent) == (margin, equivalent)
    sentence = verdict(pair)
    assert f"differences beyond {100 * pair.largest:.1f} points are excluded" in sentence
    assert ("equivalent within the declared margin" in sentence) is (margin is not None)
    assert ("not shown to be equivalent" in sentence) is (equivalent is False)
