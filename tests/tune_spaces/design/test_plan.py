"""Plans: the decision tree of a phase, with every trial once."""

import pytest

from bridge_common.errors import UserError
from ray_bridge import fingerprint, paper, tiny
from tune_spaces.design import phases, variants
from tune_spaces.design.phases import Phase
from tune_spaces.design.plan import make_plan
from tune_spaces.design.search import Axis, Search
from tune_spaces.design.sweep import sweep
from tune_spaces.gate.decision import GateSettings, Mode


def test_hybrids_differ_from_full_in_their_injection_alone() -> None:
    specs = {variant.name: variant.spec(tiny(), 0) for variant in phases.phase2(tiny()).first}
    full = variants.full().spec(tiny(), 0)
    assert specs["hybrid-residual"] == full.replace(injection="residual")
    assert specs["hybrid-adapter"] == full.replace(injection="adapter", gate_init=1.0)


def test_the_tree_of_phase_1() -> None:
    planned = make_plan(phases.phase1(tiny()), tiny())
    tree = {outcome: [planned.trials[n].variant for n in chosen] for outcome, chosen in planned.branches.items()}
    assert [planned.trials[n].variant for n in planned.first] == ["full"]
    assert tree == {"pass": [], "attribute": ["B", "C"], "attribute_all": ["A", "B", "C"]}
    assert {t.variant: t.phase for t in planned.trials.values()} == {
        "full": "phase1",
        "A": "phase1.5",
        "B": "phase1.5",
        "C": "phase1.5",
    }
    assert all(t.fingerprint == fingerprint(t.spec) for t in planned.trials.values())


def test_every_variant_runs_under_every_seed() -> None:
    planned = make_plan(phases.phase1(tiny()), tiny(), seeds=(0, 1))
    seeds: dict[str, list[int]] = {}
    for trial in planned.trials.values():
        seeds.setdefault(trial.variant, []).append(trial.seed)
    assert seeds == {"full": [0, 1], "A": [2, 3], "B": [0, 1], "C": [0, 1]}


def test_equal_experiments_are_seen_and_run_once() -> None:
    """With the projection held off, full and C are one experiment, which an attribution must not hide."""
    planned = make_plan(phases.phase1(tiny()), tiny(), held={"geometry_projection": False})
    same = {t.variant: t.same_as for t in planned.trials.values()}
    assert same["C"] == planned.first[0]
    assert same["full"] is None


def test_confident_mode_plans_more_items_then_further_seeds() -> None:
    gate = GateSettings(mode=Mode.CONFIDENT, budget=3)
    planned = make_plan(phases.phase1(tiny()), tiny(), gate=gate)
    extras = [planned.trials[name].spec for name in planned.extras]
    assert [(s.test_examples, s.seed) for s in extras] == [(2000, 0), (2000, 1), (2000, 2)]
    whole = make_plan(phases.phase1(paper()), paper(), gate=gate)
    assert [whole.trials[n].seed for n in whole.extras] == [1, 2, 3]
    assert make_plan(phases.phase1(tiny()), tiny()).extras == ()


def test_extra_runs_of_another_task_answer_its_whole_split() -> None:
    """Only the synthetic task makes more items than it was asked for."""
    limited = tiny(task="gsm8k", test_examples=200)
    planned = make_plan(phases.phase1(limited), limited, gate=GateSettings(mode=Mode.CONFIDENT))
    assert [(t.spec.test_examples, t.seed) for t in map(planned.trials.get, planned.extras) if t] == [
        (None, 0),
        (None, 1),
        (None, 2),
    ]


def test_another_mode_or_budget_leaves_the_identity_of_a_plan() -> None:
    """A campaign may be started again with more runs for the gate; what it compares stays the same."""
    plain = make_plan(phases.phase1(tiny()), tiny())
    one, three = (
        make_plan(phases.phase1(tiny()), tiny(), gate=GateSettings(mode=Mode.CONFIDENT, budget=budget))
        for budget in (1, 3)
    )
    assert len(one.extras) == 1
    assert len(three.extras) == 3
    assert plain.identity == one.identity == three.identity
    assert set(plain.identity["trials"]) == set(plain.trials)


def test_trials_stand_in_the_order_of_the_largest_branch() -> None:
    gate = GateSettings(mode=Mode.CONFIDENT, budget=1)
    planned = make_plan(phases.phase1(tiny()), tiny(), gate=gate)
    assert [trial.variant for trial in planned.trials.values()] == ["full", "full", "A", "B", "C"]
    assert [trial.phase for trial in planned.trials.values()] == ["phase1", "phase1", *["phase1.5"] * 3]
    assert all(trial.purpose for trial in planned.trials.values())


def test_variants_of_a_branch_belong_to_the_phase_if_it_names_no_other() -> None:
    more = variants.Variant(name="more", changes={"soft_tokens": 3}, purpose="why")
    phase = Phase(name="p", goal="g", first=(variants.full(),), branches={"pass": (more,)})
    trial = next(t for t in make_plan(phase, tiny()).trials.values() if t.variant == "more")
    assert (trial.phase, trial.purpose) == ("p", "why")


def test_a_variant_of_another_task_is_made_again_from_its_changes() -> None:
    """Also where it keeps what the new task would set."""
    base = paper()
    for changes in ({}, {"max_new_tokens": 256}, {"num_fewshot": 8}, {"max_new_tokens": 40}):
        own = Phase(name="p", goal="g", first=(variants.Variant(name="v", changes={"task": "math", **changes}),))
        planned = make_plan(own, base)
        (trial,) = planned.trials.values()
        assert base.replace(**planned.changes(trial)) == trial.spec


@pytest.mark.parametrize("seeds", [(), (0, 0), (-1,)])
def test_impossible_seeds(seeds: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="seeds"):
        make_plan(phases.phase1(tiny()), tiny(), seeds=seeds)


def test_a_plan_of_too_many_trials_is_refused_before_any_is_made() -> None:
    grid = sweep(tiny(), [Axis(field="steps", values=tuple(range(1, 102)))])
    with pytest.raises(UserError, match="10100 trials, 101 variants under 100 seeds, and at most 10000"):
        make_plan(grid, tiny(), seeds=range(100))
    search = Search(axes=(Axis(field="learning_rate", scale="log", low=1e-5, high=1e-3),), trials=1_000_000)
    with pytest.raises(UserError, match=r"1000000 trials.*at most 10000"):
        make_plan(Phase(name="sweep", goal="g", first=(), search=search), tiny())


def test_a_variant_that_does_not_fit_is_named() -> None:
    wrong = Phase(name="p", goal="g", first=(variants.Variant(name="odd", changes={"soft_tokenz": 3}),))
    with pytest.raises(UserError, match=r"variant odd: unknown field 'soft_tokenz'"):
        make_plan(wrong, tiny())
