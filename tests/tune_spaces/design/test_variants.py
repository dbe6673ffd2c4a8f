"""Variants and designs: which settings they change, and which they share."""

import pytest

from bridge_common.errors import UserError
from ray_bridge.config.presets import tiny
from tune_spaces.design import phases, variants
from tune_spaces.design.toggles import all_toggles
from tune_spaces.design.variants import Variant

FIELDS = [toggle.field for toggle in all_toggles()]


def on(variant: Variant) -> set[str]:
    return {toggle.key for toggle in all_toggles() if variant.changes[toggle.field]}


def test_the_variants_of_the_plan() -> None:
    a, b, c = variants.attribution().values()
    assert on(variants.full()) == {"kl", "prompt", "decode", "projection"}
    assert on(a) == on(b) == {"kl"}
    assert on(c) == {"kl", "prompt", "decode"}


def test_a_differs_from_b_in_its_seed_alone() -> None:
    a, b, _ = variants.attribution().values()
    base = tiny()
    assert a.replicate_of == "B"
    first, second = (v.spec(base, v.seeds([0])[0]) for v in (a, b))
    assert {f for f in vars(first) if getattr(first, f) != getattr(second, f)} == {"seed"}
    assert (first.seed, second.seed) == (1, 0)


@pytest.mark.parametrize("block", [[0], [0, 1, 2], [3, 7]])
def test_replicates_never_repeat_a_seed(block: list[int]) -> None:
    seeds = [seed for v in variants.replicates(variants.full(), 3) for seed in v.seeds(block)]
    assert len(set(seeds)) == len(seeds) == 3 * len(block)


def test_replicates_run_under_the_next_seeds() -> None:
    assert variants.replicate(variants.full(), 1).seeds([3, 7]) == [8, 12]
    assert variants.replicate(variants.full(), 2).seeds([0, 1, 2]) == [6, 7, 8]


def test_a_variant_keeps_its_changes() -> None:
    given = {"soft_tokens": 3}
    variant = Variant(name="v", changes=given)
    given["soft_tokens"] = 4
    assert variant.changes == {"soft_tokens": 3}


def test_variants_share_everything_but_their_changes() -> None:
    base = tiny(learning_rate=0.5)
    for variant in phases.phase1(base).variants():
        spec = variant.spec(base, 0)
        assert {f for f in vars(spec) if getattr(spec, f) != getattr(base, f)} <= set(FIELDS)


def test_leave_one_out() -> None:
    design = variants.leave_one_out()
    assert [v.name for v in design] == ["full", "no-kl", "no-prompt", "no-decode", "no-projection"]
    for toggle, variant in zip(all_toggles(), design[1:], strict=True):
        assert on(variant) == {t.key for t in all_toggles()} - {toggle.key}


def test_add_one_in() -> None:
    assert [on(v) for v in variants.add_one_in()] == [set(), {"kl"}, {"prompt"}, {"decode"}, {"projection"}]


def test_factorial_is_every_combination_once() -> None:
    design = variants.factorial()
    assert len({frozenset(on(v)) for v in design}) == len({v.name for v in design}) == 16
    assert on(design[0]) == on(variants.full())
    assert design[0].name == "full"
    some = variants.factorial(["kl", "decode"])
    assert {frozenset(on(v)) for v in some} == {frozenset(s) for s in ([], ["kl"], ["decode"], ["kl", "decode"])}


def test_compression_changes_k_alone() -> None:
    base = tiny()
    specs = [v.spec(base, 0) for v in variants.compression((4, 8))]
    assert [s.soft_tokens for s in specs] == [4, 8]
    assert specs[0].replace(soft_tokens=8) == specs[1]


def test_held_fields_take_precedence_over_changes() -> None:
    spec = variants.full().spec(tiny(), 0, {"decode_aware": False})
    assert not spec.decode_aware
    assert spec.kl_alignment


def test_designs_together_run_shared_variants_once() -> None:
    phase = phases.ablate(tiny(), ["leave-one-out", "add-one-in", "factorial"])
    assert len(phase.first) == 16


def test_phase_2_swaps_the_models() -> None:
    base = tiny()
    swap = phases.phase2(base).first[0].spec(base, 0)
    assert (swap.source, swap.target) == (base.target, base.source)


def test_names_must_be_unique() -> None:
    with pytest.raises(UserError, match="full comes twice"):
        phases.Phase(name="p", goal="g", first=(variants.full(), variants.full()))


def test_unknown_design_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="leave-one-out"):
        phases.ablate(tiny(), ["leave-two-out"])
