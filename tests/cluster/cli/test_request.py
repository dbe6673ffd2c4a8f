"""Campaigns as the command line asks for them."""

import json
from pathlib import Path

from cluster.cli.request import make_campaign, parse_phase
from tune_spaces.design.plan import make_plan
from tune_spaces.records.plan_file import phase_from_record, phase_record, plan_from_record


def planned(storage: Path, *settings: str) -> dict[str, tuple[int, int]]:
    """Return new tokens and exemplars of the variants of phase 3 that change the task, also as a later start does."""
    options = ["--preset", "paper", "--storage", str(storage), *(p for s in settings for p in ("--set", s))]
    campaign = make_campaign("phase3", parse_phase("phase3", options))
    record = json.loads(json.dumps(campaign.freeze()))
    phase = phase_from_record(json.loads(json.dumps(phase_record(campaign.phase))))
    assert make_plan(phase, campaign.base).identity == campaign.plan.identity
    resumed = plan_from_record(record, phase, campaign.base, campaign.gate)
    assert {n: t.spec for n, t in resumed.trials.items()} == {n: t.spec for n, t in campaign.plan.trials.items()}
    specs = {trial.variant: trial.spec for trial in campaign.plan.trials.values()}
    return {name: (specs[name].max_new_tokens, specs[name].num_fewshot) for name in ("hotpotqa", "math")}


def test_variants_of_another_task_take_its_needs(tmp_path: Path) -> None:
    assert planned(tmp_path) == {"hotpotqa": (32, 2), "math": (1024, 4)}


def test_variants_of_another_task_keep_what_was_asked_for(tmp_path: Path) -> None:
    asked = planned(tmp_path / "a", "max_new_tokens=256")  # what GSM8K needs, too
    assert asked == {"hotpotqa": (256, 2), "math": (256, 4)}
    assert planned(tmp_path / "b", "num_fewshot=1") == {"hotpotqa": (32, 1), "math": (1024, 1)}
