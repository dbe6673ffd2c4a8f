"""Controls and contexts: what they change of `full`, and that they run beside the plan's variants."""

import pytest

from bridge_common.errors import UserError
from ray_bridge import JobSpec, paper, tiny
from tune_spaces.design import phases, variants
from tune_spaces.design.plan import make_plan

bases = pytest.mark.parametrize("base", [tiny(), paper()])


@bases
def test_controls_differ_from_full_in_their_source_alone(base: JobSpec) -> None:
    full = variants.full().spec(base, 0)
    constant, random_source = (variant.spec(base, 0) for variant in variants.controls(base))
    assert constant == full.replace(bridge="constant", geometry_projection=False)
    assert random_source == full.replace(source=f"random:{base.source}")
    assert constant.soft_tokens == full.soft_tokens
    twice = variants.controls(base.replace(source=f"random:{base.source}"))
    assert twice[1].changes["source"] == f"random:{base.source}"


def test_controls_run_beside_whatever_the_gate_decides() -> None:
    base = tiny()
    phase = phases.phase1(base)
    planned = make_plan(phase.with_controls(base), base, seeds=(0, 1))
    assert [planned.trials[name].variant for name in planned.first] == ["full", "full"]
    assert [(planned.trials[n].variant, planned.trials[n].seed) for n in planned.beside] == [
        ("constant", 0),
        ("constant", 1),
        ("random_source", 0),
        ("random_source", 1),
    ]
    assert {planned.trials[name].phase for name in planned.beside} == {"phase1"}
    beside = {*planned.beside}
    assert all(beside.isdisjoint(names) for names in planned.branches.values())
    assert make_plan(phase, base).beside == ()
    one = phase.with_controls(base, ["random_source"])
    assert [variant.name for variant in one.beside] == ["random_source"]
    with pytest.raises(UserError, match="unknown control 'shuffled'"):
        phase.with_controls(base, ["shuffled"])


def test_both_contexts_differ_in_whether_the_target_reads_the_prompt() -> None:
    base = tiny(soft_position="before_question")
    phase = phases.phase1(base).with_controls(base, ["constant"]).with_both_contexts()
    specs = {variant.name: variant.spec(base, 0) for variant in phase.variants()}
    for name in ("full", "constant"):
        twin = specs[f"{name}-soft_only"]
        assert twin == specs[name].replace(layout="soft_only", soft_position="first")
    assert [variant.name for variant in phase.contexts] == ["full-soft_only", "constant-soft_only"]
    assert {variant.name for variant in phase.variants()} == {"full", "A", "B", "C", "constant", *(
        variant.name for variant in phase.contexts
    )}  # fmt: skip


def test_hybrids_have_no_twin_without_the_prompts_text() -> None:
    base = tiny()
    assert [v.name for v in phases.phase2(base).with_both_contexts().contexts] == ["swap-soft_only"]


def test_a_control_cannot_have_the_name_of_a_variant() -> None:
    base = tiny()
    mine = phases.Phase(name="mine", goal="g", first=(variants.Variant(name="constant", changes={"soft_tokens": 2}),))
    with pytest.raises(UserError, match="mine: variants need names of their own; constant comes twice"):
        mine.with_controls(base)
