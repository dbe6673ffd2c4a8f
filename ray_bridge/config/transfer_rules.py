"""Which settings of bridge, injection and target go together."""

from ray_bridge.config.job_fields import JobFields


def misfit(spec: JobFields) -> str | None:
    """Return why a job's bridge, injection, layout and target do not go together, with the remedy; None if they do."""
    injection = spec.injection
    rules = (
        (
            spec.layout == "soft_only" and spec.soft_position == "before_question",
            "soft_position before_question needs layout soft_plus_text: soft_only has no header",
        ),
        (
            injection != "prepend" and spec.layout == "soft_only",
            f"injection {injection} needs layout soft_plus_text: soft_only has no question in it",
        ),
        (
            spec.gate_init and injection not in ("residual", "adapter"),
            f"gate_init needs injection residual or adapter: {injection} has no such gate",
        ),
        (spec.adapter_layers and injection != "adapter", "adapter_layers needs injection adapter"),
        (
            spec.prompt_share and spec.layout != "soft_only",
            "prompt_share needs layout soft_only: under soft_plus_text every step sees the prompt",
        ),
        (
            spec.bridge == "linear" and (spec.steps or spec.flow_teacher == "none"),
            "bridge linear is fitted to flow_teacher's text, not trained: set steps=0 and a flow_teacher",
        ),
        (
            (spec.bridge == "c2c") != (injection == "c2c"),
            "bridge c2c and injection c2c belong together, as it makes no soft tokens: set both",
        ),
        (
            spec.bridge == "c2c" and (spec.geometry_projection or spec.latent_steps),
            "bridge c2c reads the source's cache: set geometry_projection=false and latent_steps=0",
        ),
        (
            spec.latent_steps and spec.geometry_projection,
            "latent_steps needs geometry_projection=false: thoughts belong to no tokens of the target",
        ),
        (
            spec.target_precision == "int8" and spec.eval_dtype == "float64",
            "target_precision int8 needs eval_dtype=as_trained: weights of 8 bits have no copy in float64",
        ),
        (
            spec.target_precision == "int8" and spec.target_shards > 1,
            "target_precision int8 needs target_shards=1: weights of 8 bits are not cut into parts",
        ),
        (
            spec.writes_cache and spec.target_shards > 1,
            f"injection {injection} needs target_shards=1: a part has not all keys and values",
        ),
    )
    return next((message for wrong, message in rules if wrong), None)
