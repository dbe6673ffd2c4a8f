"""Every variant of phases 2 and 3 in miniature, from Tune to the reports, after the phase 1 that they need."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from bridge_common.files import read_json
from bridge_common.metric_names import CONDITIONS, budgeted
from ray_bridge import JobSpec, fingerprint, tiny, tiny_run
from tests.support.model_pairs import make_pair
from tune_spaces.appendix.from_campaign import campaign_appendix
from tune_spaces.campaign import Campaign
from tune_spaces.card.write import write_card
from tune_spaces.design import phases
from tune_spaces.design.phases import Phase
from tune_spaces.design.variants import Variant
from tune_spaces.gate.decision import GateSettings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("connected_ray")]
DATA = Path(__file__).parents[1] / "data" / "tasks"
OF_TASKS = ("math", "hotpotqa")
K = (4, 8, 16, 32, 64)
IN_PROCESS = "tests.support.local_jobs:in_the_trials_process"


def miniature(variant: Variant, large: str) -> Variant:
    """Return a variant with this repository's data, and a small model in the place of a 70B one."""
    changes = dict(variant.changes)
    if variant.name in OF_TASKS:
        changes |= {"task_data": str(DATA / variant.name), "train_examples": None, "test_examples": None}
        changes |= {"max_new_tokens": 8, "num_fewshot": 0}
    if variant.name == "target-70b":
        changes["target"] = large
    return replace(variant, changes=changes)


@pytest.fixture(scope="module")
def base() -> JobSpec:
    sizes = {"steps": 2, "eval_every": 2, "warmup_steps": 1, "batch_size": 4, "max_new_tokens": 8, "hidden_size": 16}
    few = {"train_examples": 40, "validation_examples": 2, "test_examples": 4, "num_heads": 2, "depth": 1}
    return tiny(**sizes, **few, decode_questions=2, decode_samples=2, eval_dtype="as_trained")


@pytest.fixture(scope="module")
def ran(base: JobSpec, tmp_path_factory: pytest.TempPathFactory, connected_ray: Any) -> dict[str, Campaign]:
    """Run phases 2 and 3, which are refused before phase 1 has passed."""
    storage, large = tmp_path_factory.mktemp("storage"), make_pair(tmp_path_factory.mktemp("large")).target
    gate = GateSettings(passes=0.0, attribute=0.0)

    def campaign(phase: Phase) -> Campaign:
        return Campaign(phase, base, tiny_run(workers=1), storage=storage, name=phase.name, gate=gate)

    campaigns = {}
    for name in ("phase2", "phase3"):
        phase = phases.PHASES[name](base)
        small = replace(phase, first=tuple(miniature(v, large) for v in phase.first), needs_free_gpus=False)
        campaigns[name] = campaign(small)
        with pytest.raises(UserError, match=f"{name} needs phase1: no campaign"):
            campaigns[name].run()
    for one in (campaign(phases.phase1(base)), *campaigns.values()):
        assert one.run(IN_PROCESS).finished
    return campaigns


def results(campaign: Campaign) -> dict[str, dict[str, Any]]:
    trials = campaign.plan.trials.items()
    return {trial.variant: read_json(campaign.trial(name).path / "result.json")["metrics"] for name, trial in trials}


def test_all_conditions_of_every_variant_were_measured(ran: dict[str, Campaign]) -> None:
    found = {name: results(campaign) for name, campaign in ran.items()}
    assert set(found["phase2"]) == {"swap", "hybrid-residual", "hybrid-adapter"}
    of_three = {"attention-pooling", "dit-xattn", "hotpotqa", "math", "target-70b"}
    assert set(found["phase3"]) == of_three | {f"k{k}" for k in K}
    for metrics in (metrics for of_phase in found.values() for metrics in of_phase.values()):
        assert {f"accuracy/{condition}" for condition in CONDITIONS} <= metrics.keys()
    assert {"pooling/entropy_share"} <= set(_recorded(ran["phase3"], "attention-pooling"))
    assert {"cross/entropy_share"} <= set(_recorded(ran["phase3"], "dit-xattn"))


def _recorded(campaign: Campaign, variant: str) -> set[str]:
    name = next(name for name, trial in campaign.plan.trials.items() if trial.variant == variant)
    return {key for event in campaign.trial(name).events() if event["kind"] == "metrics" for key in event["values"]}


def test_the_swap_changes_the_models_and_nothing_else(ran: dict[str, Campaign], base: JobSpec) -> None:
    swap = next(t.spec for t in ran["phase2"].plan.trials.values() if t.variant == "swap")
    assert (swap.source, swap.target) == (base.target, base.source)
    assert swap.replace(source=base.source, target=base.target) == phases.phase1(base).first[0].spec(base, 0)
    metrics, straight = results(ran["phase2"])["swap"], results(ran["phase3"])["k4"]
    assert metrics["accuracy/source_alone"] == straight["accuracy/target_alone"]
    assert metrics["accuracy/target_alone"] == straight["accuracy/source_alone"]


def test_what_phase_1_ran_is_not_run_again(ran: dict[str, Campaign], base: JobSpec) -> None:
    frame = ran["phase3"].results().set_index("variant")
    same = fingerprint(base)
    assert set(frame.index[frame["fingerprint"] == same]) == {"k16", "dit-xattn"}
    reused = frame["reused_from"].notna()
    assert set(frame.index[reused]) == {"k16", "dit-xattn"}


def test_the_appendix_has_compression_attention_and_groups(ran: dict[str, Campaign], tmp_path: Path) -> None:
    paths = campaign_appendix(ran["phase3"].folder, tmp_path)
    record = read_json(paths["appendix.json"])
    rows = {(row["way"], row["tokens"]): row for row in record["compression"]}
    ways = ("soft_plus_text", "question_cut", "source_summary", "text_bridge")
    assert set(rows) == {(way, k) for way in ways for k in K} | {("target_alone", None)}
    assert all(row["prompt_kv_bytes"] is not None and row["runs"] == 1 for row in rows.values())
    saved = [rows["question_cut", k]["saved_bytes"] for k in K]
    assert saved == sorted(saved, reverse=True)
    assert saved[0] > 0 > rows["soft_plus_text", 4]["saved_bytes"]
    assert set(results(ran["phase3"])["k4"]) >= {f"accuracy/{name}" for name in budgeted(K)}
    assert paths["compression.png"].read_bytes().startswith(b"\x89PNG")
    text = paths["appendix.md"].read_text(encoding="utf-8")
    attention = text.split("## Attention")[1].split("\n## ")[0]
    assert "- attention-pooling, attention pooling: " in attention
    assert "- dit-xattn, cross-attention: " in attention
    groups = {(row["variant"], row["group"], row["value"]): row["n"] for row in record["groups"]}
    assert groups["math", "level", "Level 3"] == 3
    assert groups["math", "subject", "Algebra"] == 3
    assert groups["hotpotqa", "type", "comparison"] == 1
    assert groups["hotpotqa", "level", "hard"] == 2


def test_the_card_has_compression_and_the_groups_of_tasks(ran: dict[str, Campaign]) -> None:
    page = write_card(ran["phase3"].folder).read_text(encoding="utf-8")
    compressed = page.split('<section id="soft-tokens">')[1].split("</section>")[0]
    assert all(words in compressed for words in ("soft tokens and the prompt", "the question cut", "the whole prompt"))
    section = page.split('<section id="groups">')[1].split("</section>")[0]
    assert all(word in section for word in ("math", "Number Theory", "hotpotqa", "comparison"))
