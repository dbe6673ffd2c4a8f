"""What each phase says of itself: the names, goals and purposes that plans, reports and MLflow runs show."""

import pytest

from bridge_common.errors import UserError
from ray_bridge import paper, tiny
from tune_spaces.design import phases, variants
from tune_spaces.design.phases import Phase
from tune_spaces.design.variants import Variant

PURPOSES = {
    "phase1": {
        "full": "all toggles on",
        "A": "replicate of B under the next seed: the noise floor",
        "B": "KL alignment alone",
        "C": "everything but the projection",
    },
    "phase2": {
        "swap": "source and target change places",
        "hybrid-residual": "literal prompt kept, bridge output added to it",
        "hybrid-adapter": "literal prompt kept, bridge output read by gated adapters",
    },
    "phase3": {
        **{f"k{k}": f"{k} soft tokens" for k in (4, 8, 16, 32, 64)},
        "attention-pooling": "pooling with diagnostics",
        "dit-xattn": "DiT with cross-attention to the source",
        "hotpotqa": "multi-hop questions, context in the prompt",
        "math": "competition problems",
        "target-70b": "a 70B target",
    },
    "rivals": {
        "resampler": "rival: a Perceiver resampler, trained with the same losses without diffusion",
        "kv-prefix": "rival: the resampler's slots as keys and values in every layer, instead of soft tokens",
        "latent-thoughts": "rival: the resampler reads the last states of 16 latent steps of the source",
        "c2c": "rival: the source's cache of keys and values, fused into the target's behind learned gates",
        "linear": "rival: a linear map to the question's embeddings, fitted in closed form",
        "linear-answer": "rival: a linear map to the gold answer's embeddings, fitted in closed form",
    },
}
GOALS = {
    "phase1": "do all fixes at once pass the gate; below it, attribution of effects (phase 1.5)",
    "phase2": "does direction matter, and does text anchoring close the gap",
    "phase3": "compression, conditioning, other tasks, a larger target",
    "rivals": "how the bridge compares with other ways to pass on what the source knows",
}


@pytest.mark.parametrize("name", PURPOSES)
def test_a_phase_says_what_it_and_its_variants_are_for(name: str) -> None:
    phase = phases.PHASES[name](tiny())
    assert (phase.name, phase.goal) == (name, GOALS[name])
    assert {variant.name: variant.purpose for variant in phase.variants()} == PURPOSES[name]


def test_later_phases_need_phase_1_and_the_third_needs_free_gpus() -> None:
    made = [phases.PHASES[name](tiny()) for name in PURPOSES]
    assert [phase.needs for phase in made] == [(), ("phase1",), ("phase1",), ("phase1",)]
    assert [phase.needs_free_gpus for phase in made] == [False, False, True, False]
    assert [phase.follow_up for phase in made] == ["phase1.5", None, None, None]
    assert [phase.gated for phase in made] == [True, False, False, False]


def test_compression_suits_the_target_and_is_measured_beside_text_of_every_k() -> None:
    for base, sizes in ((tiny(), (4, 8, 16, 32, 64)), (paper(), (64, 128, 256, 512))):
        specs = [variant.spec(base, 0) for variant in phases.phase3(base).first if variant.name.startswith("k")]
        assert tuple(spec.soft_tokens for spec in specs) == sizes
        assert {spec.text_budgets for spec in specs} == {sizes}
        designed = phases.ablate(base, ["compression"]).first
        assert [variant.spec(base, 0) for variant in designed] == specs
        least = f"k{sizes[0]}"
        assert [(a, b) for _, a, b in phases.phase3(base).asks if b == least] == [(f"k{k}", least) for k in sizes[1:]]


@pytest.mark.parametrize("name", PURPOSES)
def test_every_goal_of_a_phase_is_a_question(name: str) -> None:
    """Each variant is asked about, against one that runs, phase 1's full, or a condition of its own."""
    phase = phases.PHASES[name](tiny())
    names = {variant.name for variant in phase.variants()}
    asked = {variant for _, a, b in phase.asks for variant in (a, b)}
    assert names - asked <= {"A"}, "which only repeats B"
    assert asked <= names | {"full", "target_alone"}
    assert all(question.endswith("?") for question, _, _ in phase.asks)


def test_an_ablation_names_its_toggles() -> None:
    everything, some = phases.ablate(tiny()), phases.ablate(tiny(), ["leave-one-out"], ["kl", "geometry_projection"])
    assert (everything.name, everything.goal) == ("ablate", "effects of all toggles")
    assert some.goal == "effects of kl, projection"
    assert {variant.name: variant.purpose for variant in some.first} == {
        "full": "all toggles on",
        "no-kl": "all but kl",
        "no-projection": "all but projection",
    }


def test_purposes_of_single_and_combined_toggles() -> None:
    assert variants.only().purpose == "all toggles off"
    assert variants.only("kl", "decode").purpose == "only kl, decode"
    assert variants.only("kl", purpose="why not").purpose == "why not"


def test_variants_of_the_largest_branch_stand_first() -> None:
    one, two, three = (Variant(name=name, changes={"soft_tokens": k}) for k, name in enumerate("XYZ", start=1))
    phase = Phase(
        name="p", goal="g", first=(variants.full(),), branches={"small": (three,), "large": (one, two, three)}
    )
    assert [variant.name for variant in phase.variants()] == ["full", "X", "Y", "Z"]


def test_a_phase_with_a_mistake_is_named() -> None:
    with pytest.raises(UserError, match="p: variants need names of their own; full comes twice"):
        Phase(name="p", goal="g", first=(variants.full(), variants.full()))
    other = Variant(name="full", changes={"soft_tokens": 3})
    with pytest.raises(UserError, match="p: full means two different variants"):
        Phase(name="p", goal="g", first=(variants.full(),), branches={"pass": (other,)})
    with pytest.raises(UserError, match="p: a phase needs at least one variant"):
        Phase(name="p", goal="g", first=())
