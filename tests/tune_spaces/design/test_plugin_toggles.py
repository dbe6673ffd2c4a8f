"""A toggle of a plug-in's setting: switched where the setting is, left out where it is not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from ray_bridge import JobSpec, tiny
from tests.support.plugin_modules import EXAMPLE, importable
from tune_spaces.campaign import Campaign
from tune_spaces.design import phases, toggles, variants
from tune_spaces.design.plan import Plan, make_plan
from tune_spaces.ray_tune.search_space import search_space
from tune_spaces.records import plan_file


@pytest.fixture
def base(tmp_path: Path) -> Iterator[JobSpec]:
    with importable(tmp_path):
        (tmp_path / "my_plugin.py").write_text(EXAMPLE)
        yield tiny(plugins=("my_plugin",), task="sums", bridge="low_rank")


def positions(planned: Plan) -> dict[str, Any]:
    return {trial.variant: trial.spec.extra.get("rank") for trial in planned.trials.values()}


def test_it_is_found_in_search_space_parameters_and_columns(base: JobSpec) -> None:
    assert sorted(search_space()["extra.rank"].categories) == [8, 64]
    assert toggles.parameters(base.flat())["toggle.rank"] == "on"
    assert toggles.values(base.flat())["extra.rank"] == 8
    assert toggles.columns()["extra.rank"] == "rank"


def test_designs_switch_it(base: JobSpec) -> None:
    planned = make_plan(phases.ablate(base, ("leave-one-out", "add-one-in"), ["rank"]), base)
    assert positions(planned) == {"full": 8, "no-rank": 64, "none": 64, "only-rank": 8}
    one = next(trial for trial in planned.trials.values() if trial.variant == "no-rank")
    assert planned.changes(one) == {"extra.rank": 64}
    assert len({trial.fingerprint for trial in planned.trials.values()}) == 4
    assert len(phases.ablate(base, ["factorial"]).first) == 2**5


def test_a_job_without_the_setting_has_no_such_toggle(base: JobSpec) -> None:
    other = base.replace(bridge="dit")
    planned = make_plan(phases.ablate(other, ["factorial"]), other)
    assert set(positions(planned).values()) == {None}
    assert len(planned.trials) == 2**4
    assert "full" in positions(planned)
    with pytest.raises(
        UserError, match=r"toggle 'rank' switches extra\.rank, which neither task sums nor bridge dit has"
    ):
        phases.ablate(other, among=["rank"])


def test_a_variant_with_another_bridge_leaves_it_out(base: JobSpec) -> None:
    found = positions(make_plan(phases.phase3(base), base))
    assert found["dit-xattn"] is None
    assert found["hotpotqa"] == found["k64"] == 8


def test_a_variant_with_another_task_leaves_out_the_toggles_of_this_one(base: JobSpec) -> None:
    largest = toggles.find("rank")
    toggles.register_toggle(replace(largest, key="largest", field="extra.largest", on=10, off=30, column="largest"))
    found = {trial.variant: trial.spec.extra for trial in make_plan(phases.phase3(base), base).trials.values()}
    assert found["k64"] == {"rank": 8, "largest": 10}
    assert found["hotpotqa"] == {"rank": 8}
    assert found["dit-xattn"] == {"largest": 10}


def test_a_held_setting_is_not_switched(base: JobSpec) -> None:
    fixed = base.replace(**{"extra.rank": 16})
    planned = make_plan(phases.phase1(fixed), fixed, held={"extra.rank": 16})
    assert set(positions(planned).values()) == {16}


def test_a_frozen_plan_reads_back(base: JobSpec, tmp_path: Path) -> None:
    from ray_bridge import tiny_run

    phase = phases.phase3(base)
    asked = Campaign(phase, base, tiny_run(), storage=tmp_path / "runs", name="p")
    again = plan_file.plan_from_record(asked.freeze(), phase, base, asked.gate)
    assert again.trials == asked.plan.trials
    assert again.identity == asked.plan.identity


def test_an_edited_plug_in_is_not_mixed_into_a_campaign(base: JobSpec, tmp_path: Path) -> None:
    from ray_bridge import tiny_run

    def asked() -> Campaign:
        return Campaign(phases.phase1(base), base, tiny_run(), storage=tmp_path / "runs", name="p")

    asked().freeze()
    (tmp_path / "my_plugin.py").write_text(EXAMPLE + "\n# edited\n")
    with pytest.raises(UserError, match="planned differently"):
        asked().freeze()


def test_the_toggles_of_the_package_are_as_before() -> None:
    assert len(toggles.all_toggles()) == 4
    assert [toggle.key for toggle in toggles.applicable("synthetic", "dit")] == ["kl", "prompt", "decode", "projection"]
    assert variants.full().changes.keys() == {toggle.field for toggle in toggles.all_toggles()}
