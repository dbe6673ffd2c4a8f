"""Which fields of a spec cannot change its result, because of the others: a study that varies one measures nothing."""

from ray_bridge.config.job_fields import JobFields

OBJECTIVE = (
    *("kl_alignment", "prompt_alignment", "decode_aware", "kl_weight", "prompt_weight_on", "prompt_weight_off"),
    *("flow_weight", "contrast_weight", "contrast_temperature", "condition_dropout", "prompt_share"),
)
DECODING = ("decode_weight", "on_policy_distill", "decode_questions", "decode_samples", "decode_temperature")
OPTIMISER = ("learning_rate", "warmup_steps", "weight_decay", "clip_norm", "ema_decay")
OF_SOFT_TOKENS = (
    *("soft_tokens", "prompt_alignment", "prompt_weight_on", "prompt_weight_off"),
    *("contrast_weight", "contrast_temperature"),
)
OF_THE_FLOW = ("sampler_steps", "flow_prediction", "flow_weight", "guidance_scale", "condition_dropout", "pooling")
WITHOUT_FLOW = ("resampler", "linear", "c2c", "constant")
OF_THE_WIDTH = ("hidden_size", "depth", "num_heads")


def unused_fields(spec: JobFields) -> dict[str, str]:
    """Return the fields that cannot change a job's result, each with the setting that makes it so."""
    rules = (
        (spec.steps == 0, "steps=0, which trains nothing", (*OBJECTIVE, *DECODING, *OPTIMISER)),
        (spec.injection == "c2c", "injection=c2c, which makes no soft tokens", OF_SOFT_TOKENS),
        (spec.bridge in WITHOUT_FLOW, f"bridge={spec.bridge}, which is no flow", OF_THE_FLOW),
        (spec.bridge == "linear", "bridge=linear, which has no layers", OF_THE_WIDTH),
        (spec.bridge == "c2c", "bridge=c2c, which reads every layer's cache", ("source_layer",)),
        (spec.bridge == "constant", "bridge=constant, which reads no source", ("source_layer",)),
        (spec.latent_steps > 0, "latent_steps, whose states are the last layer's", ("source_layer",)),
        (not spec.decode_aware, "decode_aware=false", DECODING),
        (not spec.geometry_projection, "geometry_projection=false", ("geometry_init",)),
        (spec.eval_dtype == "float64", "eval_dtype=float64, whose text no batch changes", ("batch_invariant",)),
        (spec.prompt_alignment, "prompt_alignment=true", ("prompt_weight_off",)),
        (not spec.prompt_alignment, "prompt_alignment=false", ("prompt_weight_on",)),
    )
    return {name: setting for holds, setting, names in reversed(rules) if holds for name in names}
