"""From the options of a phase to its campaign: what is held, the gate, paths that other folders can read."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from bridge_common.errors import UserError
from cluster.cli.options import PhaseRequest
from cluster.cli.request import make_campaign, make_specs, make_trial_specs, parse_phase, task_fields
from ray_bridge import tiny, tiny_run
from tests.support.model_pairs import save_checkpoint
from tests.support.plugin_modules import EXAMPLE, importable
from tune_spaces.campaign import Campaign
from tune_spaces.design.phases import Phase, ablate, phase1, phase2
from tune_spaces.design.plan import make_plan
from tune_spaces.gate.decision import GateSettings, Mode
from tune_spaces.records.plan_file import phase_from_record, phase_record, plan_from_record


def campaign(storage: Path, *arguments: str, phase: str = "phase1") -> Campaign:
    return make_campaign(phase, parse_phase(phase, ["--storage", str(storage), *arguments]))


def test_without_options_it_is_the_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = campaign(tmp_path)
    assert (asked.name, asked.storage, asked.base, asked.run_spec) == ("phase1-tiny", tmp_path, tiny(), tiny_run())
    assert asked.phase == phase1(tiny())
    assert (asked.seeds, asked.gate, asked.held) == ((0,), GateSettings(), {})
    assert asked.request == {"preset": "tiny", "settings": {}}
    assert capsys.readouterr().out == "", "every toggle of the package applies"


def test_a_toggle_that_is_set_is_held_in_every_variant(tmp_path: Path) -> None:
    """Otherwise `full` would switch it on again, and C would be `full` by another name without anybody seeing it."""
    asked = campaign(tmp_path, "--set", "geometry_projection=false", "--set", "soft_tokens=3", "--set", "workers=1")
    assert asked.held == {"geometry_projection": False}
    assert {trial.spec.geometry_projection for trial in asked.plan.trials.values()} == {False}
    same = {trial.variant: trial.same_as for trial in asked.plan.trials.values()}
    assert same["C"] == asked.plan.first[0]
    assert asked.base.soft_tokens == 3
    assert asked.run_spec.workers == 1
    assert asked.request["settings"] == {"geometry_projection": "false", "soft_tokens": "3", "workers": "1"}


def test_the_options_of_the_gate_are_its_settings(tmp_path: Path) -> None:
    options = ("--gate", "confident", "--gate-passes", "0.8", "--gate-attribute", "0.5", "--gate-budget", "1")
    asked = campaign(tmp_path, *options)
    assert asked.gate == GateSettings(passes=0.8, attribute=0.5, mode=Mode.CONFIDENT, budget=1)
    assert len(asked.plan.extras) == 1


def test_controls_and_contexts_run_beside_the_phase(tmp_path: Path) -> None:
    every = campaign(tmp_path, "--controls")
    assert [variant.name for variant in every.phase.beside] == ["constant", "random_source"]
    some = campaign(tmp_path, "--controls", "constant", "--context", "both", "--seeds", "0,1")
    assert [some.plan.trials[name].variant for name in some.plan.beside] == [
        *("constant", "constant", "full-soft_only", "full-soft_only", "constant-soft_only", "constant-soft_only")
    ]
    assert some.base.layout == "soft_plus_text"
    assert campaign(tmp_path, "--context", "soft_only").base.layout == "soft_only"
    assert campaign(tmp_path).plan.beside == ()
    with pytest.raises(UserError, match="--controls shuffled: there is no 'shuffled'; there are constant"):
        campaign(tmp_path, "--controls", "shuffled")
    with pytest.raises(UserError, match="--context never: use reads_prompt, soft_only, both"):
        campaign(tmp_path, "--context", "never")


def test_what_runs_beside_is_in_the_frozen_plan(tmp_path: Path) -> None:
    asked = campaign(tmp_path, "--controls", "--context", "both")
    record = asked.freeze()
    phase = phase_from_record(json.loads(json.dumps(phase_record(asked.phase))))
    assert phase.beside == asked.phase.beside
    again = plan_from_record(json.loads(json.dumps(record)), phase, asked.base, asked.gate)
    assert (again.beside, again.trials.keys()) == (asked.plan.beside, asked.plan.trials.keys())
    assert {again.trials[name].fingerprint for name in again.beside} == {
        asked.plan.trials[name].fingerprint for name in asked.plan.beside
    }
    assert record["identity"] != campaign(tmp_path).plan.identity


def test_name_seeds_and_tracking_are_as_asked(tmp_path: Path) -> None:
    asked = campaign(tmp_path, "--name", "mine", "--seeds", "3,4", "--tracking-uri", "http://m:5000")
    assert (asked.name, asked.seeds, asked.request["tracking_uri"]) == ("mine", (3, 4), "http://m:5000")


def test_folders_are_made_absolute_and_names_of_the_hub_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial's worker runs in another folder, where a relative path leads nowhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for place in ("models/reader", "home/writer"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.json").write_text("{}")
    base, _ = make_specs(parse_phase("phase1", ["--source", "models/reader", "--target", "~/writer"]))
    assert (base.source, base.target) == (str(tmp_path / "models/reader"), str(tmp_path / "home/writer"))
    base, _ = make_specs(parse_phase("phase1", ["--source", "org/reader", "--target", "embedded:target"]))
    assert (base.source, base.target) == ("org/reader", "embedded:target")


def test_a_relative_folder_of_data_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    for given in ("data", "~/data"):
        base, _ = make_specs(parse_phase("phase1", ["--task", "gsm8k", "--data", given]))
        assert (base.task, base.task_data) == ("gsm8k", str(tmp_path / "data"))


def test_a_task_is_a_name_or_the_file_of_a_mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert task_fields("gsm8k") == {"task": "gsm8k"}
    mapping = tiny(task="arc_challenge").task_mapping
    assert mapping is not None
    from ray_bridge import config

    (tmp_path / "mine.toml").write_text(
        (Path(config.__file__).parent / "task_mappings" / "arc_challenge.toml").read_text()
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    fields = task_fields("~/mine.toml")
    assert fields["task"] == "mapped"
    assert tiny(**fields).task_mapping == mapping
    assert fields["task_mapping"] == mapping.model_dump(mode="json")


@pytest.mark.parametrize(
    ("phase", "arguments", "message"),
    [
        ("phase9", [], "unknown phase 'phase9': there are phase1, phase2, phase3, rivals, ablate"),
        ("phase1", ["--set", "soft_token=3"], "unknown field 'soft_token'"),
        ("phase1", ["--set", "workers=3"], "does not divide among 3 workers"),
        ("phase1", ["--set", "target_shards=3"], "workers=2 does not divide by target_shards=3"),
        ("phase1", ["--seeds", "a"], "--seeds a"),
        ("phase1", ["--gate", "sure"], "--gate sure: use plain or confident"),
        ("phase1", ["--gate-passes", "7"], "gate: needs 0 <= attribute <= passes <= 1"),
        ("phase1", ["--gate-budget", "2"], "--gate-budget goes with --gate confident"),
        ("phase3", ["--gate-passes", "0.8"], "phase3 has no gate: leave --gate-passes out"),
        ("phase1", ["--until", "2020-01-01T00:00"], "that time has passed"),
        ("phase1", ["--max-gpu-hours", "3"], "needs a run on GPUs"),
        ("phase1", ["--notify", "foo"], "--notify foo: give http"),
        ("ablate", ["--gate", "confident"], "ablate has no gate: leave --gate out"),
        ("ablate", ["--campaign", "a:b", "--gate", "sure"], "--gate sure: use plain or confident"),
        ("ablate", ["--campaign", "a:b", "--gate-passes", "7"], "gate: needs 0 <= attribute <= passes <= 1"),
        ("ablate", ["--campaign", "a:b", "--toggle", "kl"], "--toggle with --campaign"),
        ("ablate", ["--toggle", "nosuch"], "unknown toggle 'nosuch'"),
        ("sweep", [], "a sweep needs a setting to vary"),
        ("sweep", ["--over", "nosuch=1,2"], "unknown field 'nosuch'"),
        ("sweep", ["--over", "soft_tokens=64,128", "--stop-early", "hyper"], "--stop-early hyper: use asha"),
        ("sweep", ["--over", "soft_tokens=4,8", "--stop-early", "asha", "--resident"], "leave one of them out"),
    ],
)
def test_what_no_machine_could_run_is_refused_before_it_is_sent(phase: str, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_phase(phase, arguments)


def test_a_phase_swaps_the_models_of_its_base(tmp_path: Path) -> None:
    asked = campaign(tmp_path, "--set", "soft_tokens=3", phase="phase2")
    assert asked.phase == phase2(asked.base)
    assert campaign(tmp_path, phase="phase3").phase.first[0].name == "k4"
    assert campaign(tmp_path, "--preset", "paper", phase="phase3").phase.first[0].name == "k64"


def test_specs_of_a_phase_are_those_of_its_first_seed_with_what_is_held(tmp_path: Path) -> None:
    options = ["--seeds", "3,4", "--set", "geometry_projection=false", "--storage", str(tmp_path)]
    specs = make_trial_specs("phase1", parse_phase("phase1", options))
    assert {name: spec["seed"] for name, spec in specs.items()} == {"full": 3, "A": 5, "B": 3, "C": 3}
    assert {spec["geometry_projection"] for spec in specs.values()} == {False}
    planned = campaign(tmp_path, *options[:4]).plan.trials.values()
    assert all(trial.spec.flat() == specs[trial.variant] for trial in planned if trial.seed in (3, 5))
    tasks = make_trial_specs("phase3", parse_phase("phase3", ["--preset", "paper", "--set", "max_new_tokens=99"]))
    assert {tasks[name]["max_new_tokens"] for name in ("k64", "hotpotqa", "math")} == {99}
    with pytest.raises(UserError, match="unknown phase 'phase9'"):
        make_trial_specs("phase9", parse_phase("phase1", []))


def test_options_of_a_design_belong_to_ablations_alone() -> None:
    assert parse_phase("ablate", ["--toggle", "kl"]).toggle == ("kl",)
    with pytest.raises(click.UsageError, match="No such option '--toggle'"):
        parse_phase("phase1", ["--toggle", "kl"])


def test_an_unknown_phase_makes_no_campaign(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown phase 'phase9'"):
        make_campaign("phase9", parse_phase("phase1", ["--storage", str(tmp_path)]))


def test_a_design_of_toggles(tmp_path: Path) -> None:
    asked = campaign(tmp_path, "--design", "add-one-in", "--toggle", "kl", phase="ablate")
    assert asked.phase == ablate(tiny(), ["add-one-in"], ["kl"])
    assert campaign(tmp_path, phase="ablate").phase == ablate(tiny(), ["leave-one-out"])


OWN = """
from tune_spaces.design.phases import Phase
from tune_spaces.design.variants import full, only

def fixed():
    return Phase(name="fixed", goal="g", first=(full(),))

def of_base(base):
    return Phase(name=f"with-{base.soft_tokens}", goal="g", first=(only("kl"),))

def text():
    return "phase"
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[None]:
    with importable(tmp_path):
        (tmp_path / "own_phases.py").write_text(OWN)
        yield


@pytest.mark.usefixtures("own")
def test_a_phase_of_ones_own_may_take_the_base(tmp_path: Path) -> None:
    def named(function: str) -> Phase:
        arguments = ("--campaign", f"own_phases:{function}", "--set", "soft_tokens=3")
        return campaign(tmp_path / "runs", *arguments, phase="ablate").phase

    assert (named("fixed").name, named("of_base").name) == ("fixed", "with-3")
    with pytest.raises(UserError, match="--campaign own_phases:text: it returned a str, not a Phase"):
        named("text")
    for wrong in ("own_phases:nothing", "no_such_module:fixed", ":fixed"):
        with pytest.raises(UserError, match=f"--campaign {wrong}: .*; give MODULE:FUNCTION"):
            campaign(tmp_path / "runs", "--campaign", wrong, phase="ablate")


def test_plug_ins_are_part_of_the_spec_and_a_toggle_that_does_not_apply_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with importable(tmp_path):
        (tmp_path / "my_plugin.py").write_text(EXAMPLE)
        request = parse_phase("phase1", ["--plugin", "my_plugin", "--task", "sums", "--storage", str(tmp_path / "r")])
        assert make_campaign("phase1", request).base.plugins == ("my_plugin",)
        assert capsys.readouterr().out == (
            f"note: task sums and bridge {tiny().bridge} have no extra.rank, which rank switches\n"
        )


def test_a_request_can_be_changed_before_it_is_used(tmp_path: Path) -> None:
    request: PhaseRequest = replace(parse_phase("phase1", []), storage=tmp_path, name="other")
    made: dict[str, Any] = make_campaign("phase1", request).request
    assert made["preset"] == "tiny"


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


def test_a_target_whose_heads_do_not_divide_is_refused_before_ray_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the 1 key and value heads of embedded:target do not divide"):
        campaign(tmp_path, "--set", "target_shards=2")
    place = str(save_checkpoint(tmp_path / "target", "llama", width=64, kv_heads=2))
    asked = campaign(tmp_path, "--set", "target_shards=2", "--target", place, phase="phase3")
    assert {trial.spec.target_shards for trial in asked.plan.trials.values()} == {2}
    with pytest.raises(UserError, match=r"the 4 attention heads of .* do not divide by it; it can be 1, 2"):
        campaign(tmp_path, "--set", "target_shards=8", "--set", "workers=8", "--target", place)


def test_resident_is_a_field_of_the_run(tmp_path: Path) -> None:
    assert not campaign(tmp_path).run_spec.resident
    asked = campaign(tmp_path, "--resident")
    assert asked.run_spec.resident
    assert asked.base == campaign(tmp_path).base, "it changes no result"
