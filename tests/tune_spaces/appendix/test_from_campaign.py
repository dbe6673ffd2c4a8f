"""The appendix of a campaign's folder, as a campaign leaves it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bridge_common import files
from bridge_common.errors import UserError
from ray_bridge import JobSpec, fingerprint, tiny
from tests.support.plugin_modules import registries_kept
from tune_spaces.appendix.from_campaign import campaign_appendix
from tune_spaces.design import toggles
from tune_spaces.design.phases import phase2
from tune_spaces.design.variants import Variant, attribution, full
from tune_spaces.records.plan_file import phase_record

ITEMS = 120


def write_trial(campaign: Path, variant: Variant, seed: int, phase: str = "phase1", **changes: Any) -> Path:
    spec = variant.spec(tiny(), seed).replace(**changes)
    folder = campaign / "trials" / f"{variant.name}-{phase}-{seed}"
    about = {"variant": variant.name, "phase": phase, "fingerprint": "0" * 16, "seed": seed, "run": {}}
    files.write_json(folder / "spec.json", {**about, "spec": spec.model_dump()})
    return folder


def finish(folder: Path, accuracy: float, rng: np.random.Generator, **metrics: float) -> None:
    flags = rng.random(ITEMS) < accuracy
    rows = [
        {"id": f"i{i}", "index": i, "gold": "1", "question": f"q{i}", "bridged_answer": "1" if flag else "2"}
        | {"bridged_correct": bool(flag), "bridged_valid": True, "bridged_output": "#### 1"}
        for i, flag in enumerate(flags)
    ]
    files.write_jsonl(folder / "samples.jsonl", rows)
    for step in range(30):
        event = {
            "kind": "metrics",
            "time": float(step),
            "step": step,
            "values": {"validation/accuracy/bridged": step / 30},
        }
        files.append_jsonl(folder / "events.jsonl", event)
    files.write_json(folder / "result.json", {"metrics": {"accuracy/bridged": float(flags.mean()), **metrics}})


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "spring"
    finish(write_trial(folder, full(), 0), 0.6, rng)
    for variant in attribution().values():
        finish(write_trial(folder, variant, variant.seeds([0])[0], "phase1.5"), 0.6, rng)
    gate = {"settings": {"passes": 0.7, "attribute": 0.65}, "branch": "attribute_all", "uncertain": True}
    gate["decisions"] = [{"accuracy": 0.6}]
    files.write_json(folder / "gate.json", gate)
    return folder


def test_the_appendix_is_written_into_the_campaign_by_default(campaign: Path) -> None:
    paths = campaign_appendix(campaign)
    assert {path.parent for path in paths.values()} == {campaign / "appendix"}
    assert {"curves.png", "gate.png", "effects.png", "pairs.png"} <= set(paths)
    text = paths["appendix.md"].read_text(encoding="utf-8")
    assert text.startswith("# Attribution appendix of spring\n")
    effects = pd.read_csv(paths["effects.csv"])
    projection = effects[(effects.kind == "leave_one_out") & (effects.toggles == "geometry_projection")]
    assert projection["status"].tolist() == ["estimated"]
    record = json.loads(paths["appendix.json"].read_text(encoding="utf-8"))
    assert record["noise_floor"]["pairs"] == 1
    assert list(record["runs"]) == ["full", "A", "B", "C"]


def test_attention_weights_have_a_sentence_and_a_curve(campaign: Path) -> None:
    assert "attention.png" not in campaign_appendix(campaign)
    folder = next((campaign / "trials").glob("full-*"))
    for step, share in ((0, 0.999), (50, 0.987)):
        values = {"pooling/entropy_share": share, "cross/entropy_share": share - 0.6}
        files.append_jsonl(
            folder / "events.jsonl", {"kind": "metrics", "time": float(step), "step": step, "values": values}
        )
    paths = campaign_appendix(campaign)
    assert paths["attention.png"].read_bytes().startswith(b"\x89PNG")
    section = paths["appendix.md"].read_text(encoding="utf-8").split("## Attention")[1].split("\n## ")[0]
    assert (
        "- full, attention pooling: 98.7 % of uniform entropy at the last evaluation, 99.9 % at the first: "
        "the condition is hardly more than the mean over all tokens." in section
    )
    assert "- full, cross-attention: 38.7 % of uniform entropy" in section
    assert "each slot reads few tokens." in section
    assert "C, " not in section


def test_without_a_decision_there_is_no_gate_and_there_are_no_bands(campaign: Path) -> None:
    """As in `ablate`, which has no gate: its record is there, open and without decisions."""
    files.write_json(campaign / "gate.json", {**files.read_json(campaign / "gate.json"), "decisions": []})
    assert "gate.png" not in campaign_appendix(campaign)


def test_phase_2_is_compared_with_phase_1s_full_of_the_same_base(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    base = tiny()
    for name, steps in (("first", 0), ("other-base", 7)):
        spec = full().spec(base.replace(steps=base.steps + steps), 0)
        finish_as(tmp_path / name / "trials", "full", spec, rng)
    phase = phase2(base)
    for variant in phase.first:
        finish_as(tmp_path / "second" / "trials", variant.name, variant.spec(base, 0), rng, target_alone=0.5)
    record = {"phase": phase_record(phase), "base": base.model_dump(), "seeds": [0]}
    files.write_json(tmp_path / "second" / "campaign.json", record)
    paths = campaign_appendix(tmp_path / "second")
    found = json.loads(paths["appendix.json"].read_text(encoding="utf-8"))
    assert list(found["runs"]) == ["full", "hybrid-adapter", "hybrid-residual", "swap"]
    direction, residual, adapter = found["answers"]
    assert direction.startswith("Does direction matter? Not shown: gain over the target alone of swap against full")
    assert residual.startswith("Does anchoring by residual addition close the gap? Not shown: accuracy of hybrid-res")
    assert adapter.startswith("Does anchoring by gated adapters close the gap? Not shown: accuracy of hybrid-adapter")
    text = paths["appendix.md"].read_text(encoding="utf-8")
    assert text.index("| variant | runs |") < text.index(direction) < text.index("## What the data support")


def finish_as(trials: Path, name: str, spec: JobSpec, rng: np.random.Generator, target_alone: float = 0.5) -> None:
    digest = fingerprint(spec)
    folder = trials / f"{name}-{digest[:8]}"
    about = {"variant": name, "phase": "phase", "fingerprint": digest, "seed": spec.seed, "run": {}}
    files.write_json(folder / "spec.json", {**about, "spec": spec.model_dump()})
    finish(folder, 0.6, rng)
    rows = files.read_jsonl(folder / "samples.jsonl")
    for row, flag in zip(rows, rng.random(ITEMS) < target_alone, strict=True):
        row |= {"target_alone_answer": "1" if flag else "2", "target_alone_correct": bool(flag)}
        row |= {"target_alone_valid": True, "target_alone_output": "#### 1"}
    files.write_jsonl(folder / "samples.jsonl", rows)


def test_replicates_differ_in_their_seed_alone(campaign: Path) -> None:
    record = json.loads(campaign_appendix(campaign)["appendix.json"].read_text(encoding="utf-8"))
    a, b = (record["runs"][name]["accuracy"] for name in "AB")
    assert record["noise_floor"]["largest"] == pytest.approx(abs(a - b))


def test_unfinished_trials_and_other_phases(campaign: Path) -> None:
    write_trial(campaign, Variant(name="late"), 0)
    record = json.loads(campaign_appendix(campaign)["appendix.json"].read_text(encoding="utf-8"))
    assert record["without_samples"] == ["late (seed 0)"]
    assert "Without samples: late (seed 0)." in (campaign / "appendix" / "appendix.md").read_text(encoding="utf-8")
    part = campaign_appendix(campaign, campaign / "part", phases=["phase1.5"])
    assert list(json.loads(part["appendix.json"].read_text(encoding="utf-8"))["runs"]) == ["A", "B", "C"]


def test_memory_saved_by_soft_tokens(campaign: Path) -> None:
    rng = np.random.default_rng(1)
    for k in (8, 16):
        folder = write_trial(campaign, full(), 0, f"phase3-{k}", soft_tokens=k, layout="soft_only")
        finish(folder, 0.6, rng, prompt_tokens=100.0, instruction_tokens=9.0)
    paths = campaign_appendix(campaign, campaign / "out", phases=["phase3-8", "phase3-16"])
    assert "soft_tokens.png" in paths
    rows = json.loads(paths["appendix.json"].read_text(encoding="utf-8"))["by_soft_tokens"]
    assert {row["K"]: row["saved"] for row in rows} == pytest.approx({8: 1 - 18 / 100, 16: 1 - 26 / 100})


def test_a_folder_without_trials_is_refused(tmp_path: Path, campaign: Path) -> None:
    with pytest.raises(UserError, match="has no trial yet"):
        campaign_appendix(tmp_path / "empty")
    with pytest.raises(UserError, match="has no trial of phase9 yet"):
        campaign_appendix(campaign, phases=["phase9"])


def test_a_toggle_of_a_plug_in_s_setting(campaign: Path) -> None:
    """A trial without the setting counts as off; with a third value the setting is no toggle in this campaign."""
    rank = toggles.Toggle(
        key="rank", field="extra.rank", on=8, off=64, meaning="8", without="64", reference="a test", column="rank"
    )
    with registries_kept():
        toggles.register_toggle(rank)

        def effects() -> set[str]:
            frame = pd.read_csv(campaign_appendix(campaign)["effects.csv"])
            return set(frame["toggles"])

        def set_rank(variant: str, rank: int) -> None:
            for path in campaign.glob(f"trials/{variant}-*/spec.json"):
                record = files.read_json(path)
                files.write_json(path, {**record, "spec": {**record["spec"], "extra.rank": rank}})

        assert "extra.rank" not in effects(), "no trial has the setting"
        set_rank("full", 8)
        assert "extra.rank" in effects()
        set_rank("B", 16)
        assert "extra.rank" not in effects()


def set_gpu(campaign: Path, kinds: dict[str, str | None]) -> None:
    for path in (campaign / "trials").glob("*/result.json"):
        files.write_json(path, {**files.read_json(path), "gpu": kinds[path.parent.name.split("-")[0]]})


def test_trials_on_different_kinds_of_gpu_are_named_at_the_top(campaign: Path) -> None:
    set_gpu(campaign, {"full": "NVIDIA H100", "A": "NVIDIA H100", "B": "NVIDIA A100", "C": "NVIDIA H100"})
    text = campaign_appendix(campaign)["appendix.md"].read_text(encoding="utf-8")
    top = text.split("## What the data support")[0]
    assert "**Different kinds of GPU** (NVIDIA A100: B-phase1.5-0; NVIDIA H100: full-phase1-0, A-phase1.5-1" in top


@pytest.mark.parametrize("kind", ["NVIDIA H100", None])
def test_one_kind_of_gpu_or_none_needs_no_word(campaign: Path, kind: str | None) -> None:
    set_gpu(campaign, dict.fromkeys(("full", "A", "B", "C"), kind))
    assert "Different kinds" not in campaign_appendix(campaign)["appendix.md"].read_text(encoding="utf-8")


def test_costs_stand_beside_accuracy_and_are_drawn_against_it(campaign: Path) -> None:
    folder = write_trial(campaign, full(), 0, "phase7")
    finish(folder, 0.6, np.random.default_rng(3), **{"cost/flops/bridged": 3e12, "cost/bridge_parameters": 2e6})
    paths = campaign_appendix(campaign, campaign / "out", phases=["phase7"])
    assert "pareto.png" in paths
    text = paths["appendix.md"].read_text(encoding="utf-8")
    costs = text.split("## Costs")[1].split("## ")[0]
    assert "| full | bridged | " in costs
    assert "| 3 T |" in costs
    assert "Bridges: full 2 M parameters, not known." in costs
    (row,) = json.loads(paths["appendix.json"].read_text(encoding="utf-8"))["costs"]
    assert (row["variant"], row["condition"], row["flops"]) == ("full", "bridged", 3e12)
    assert "## Costs" not in campaign_appendix(campaign, phases=["phase1"])["appendix.md"].read_text(encoding="utf-8")
