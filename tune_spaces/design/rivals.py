"""The field's rivals as variants: other ways to hand a source's knowledge to a target, under `full`'s own controls.

Each is trained on the same examples in the same order for the same steps as `full`, and evaluated under the same
conditions. docs/rivals.md says what each method claims, and what of it is reproduced.
"""

from tune_spaces.design.variants import Variant, full

RESAMPLER = "resampler"
LINEAR, LINEAR_ANSWER = "linear", "linear-answer"
KV_PREFIX = "kv-prefix"
LATENT_THOUGHTS = "latent-thoughts"
LATENT_STEPS = 16
C2C = "c2c"


def rival_variants() -> tuple[Variant, ...]:
    """Return the rivals, each as `full` with the fields changed that make it that method."""
    on = full().changes
    return (
        Variant(
            name=RESAMPLER,
            changes={**on, "bridge": "resampler"},
            purpose="rival: a Perceiver resampler, trained with the same losses without diffusion",
        ),
        Variant(
            name=KV_PREFIX,
            changes={**on, "bridge": "resampler", "injection": "kv_prefix"},
            purpose="rival: the resampler's slots as keys and values in every layer, instead of soft tokens",
        ),
        Variant(
            name=LATENT_THOUGHTS,
            changes={**on, "bridge": "resampler", "latent_steps": LATENT_STEPS, "geometry_projection": False},
            purpose=f"rival: the resampler reads the last states of {LATENT_STEPS} latent steps of the source",
        ),
        Variant(
            name=C2C,
            changes={**on, "bridge": "c2c", "injection": "c2c", "geometry_projection": False},
            purpose="rival: the source's cache of keys and values, fused into the target's behind learned gates",
        ),
        Variant(
            name=LINEAR,
            changes={**on, "bridge": "linear", "steps": 0},
            purpose="rival: a linear map to the question's embeddings, fitted in closed form",
        ),
        Variant(
            name=LINEAR_ANSWER,
            changes={**on, "bridge": "linear", "flow_teacher": "answer", "steps": 0},
            purpose="rival: a linear map to the gold answer's embeddings, fitted in closed form",
        ),
    )


RIVAL_QUESTIONS = (
    ("Does a resampler without diffusion do as well?", RESAMPLER, "full"),
    ("Do keys and values in every layer do as well as soft tokens?", KV_PREFIX, "full"),
    ("Do latent thoughts say as much as the question's states?", LATENT_THOUGHTS, "full"),
    ("Does a fused cache do as well as soft tokens?", C2C, "full"),
    ("Does a linear map to the question's embeddings do as well?", LINEAR, "full"),
    ("Does a linear map to the answer's embeddings do as well?", LINEAR_ANSWER, "full"),
)
"""The questions of the phase, as `Phase.asks` has them."""
