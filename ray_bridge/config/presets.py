"""The two presets, from which every other configuration differs by a few fields.

`tiny` runs in minutes on two CPU cores, with the models that ship in the package. `paper` is the plan's configuration
`1b_dit_4step_64tok_soft_plus_text`, on four GPUs of one node.
"""

from collections.abc import Callable
from typing import Any

from bridge_common.errors import UserError
from ray_bridge.config.run_spec import RunSpec
from ray_bridge.config.spec import JobSpec
from ray_bridge.config.validation import build


def tiny(**changes: Any) -> JobSpec:
    """Return the job of preset `tiny`, with changes: the embedded pair on the synthetic task."""
    values: dict[str, Any] = {
        # Linear probes read the value of a number word best there (ray_bridge/embedded_pair/README.md).
        "source_layer": 3,
        "bridge": "dit_xattn",
        "soft_tokens": 16,
        "hidden_size": 128,
        "depth": 2,
        "num_heads": 4,
        "geometry_init": "procrustes",  # keeps the scale of directions that ridge shrinks
        # Only a number's few tokens are uncertain here: the loss per token is small, and these weights in proportion.
        "flow_weight": 0.01,
        "contrast_weight": 0.005,
        "train_examples": 20_000,
        "validation_examples": 128,
        "test_examples": 500,
        "num_fewshot": 0,  # whatever the task: the embedded models read 512 tokens
        "steps": 400,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "warmup_steps": 20,
        "eval_every": 100,
        "eval_dtype": "float64",
    }
    return build(JobSpec, {**values, **changes})


def paper(**changes: Any) -> JobSpec:
    """Return the job of preset `paper`, with changes: Mistral-7B to Llama-3.1-8B on GSM8K with eight exemplars."""
    values: dict[str, Any] = {
        "source": "mistralai/Mistral-7B-Instruct-v0.3",
        "target": "meta-llama/Llama-3.1-8B-Instruct",
        "source_layer": 24,
        "model_dtype": "bfloat16",
        "task": "gsm8k",
        "validation_examples": 200,
        "soft_tokens": 64,
        "hidden_size": 1024,
        "depth": 6,
        "num_heads": 16,
        "steps": 2000,
        "batch_size": 8,
        "learning_rate": 1e-4,
        "warmup_steps": 100,
        "eval_every": 200,
    }
    return build(JobSpec, {**values, **changes})


def tiny_run(**changes: Any) -> RunSpec:
    """Return the run of preset `tiny`, with changes: two workers on CPUs."""
    return build(RunSpec, {"workers": 2, "eval_batch_size": 64, "checkpoint_every": 100, **changes})


def paper_run(**changes: Any) -> RunSpec:
    """Return the run of preset `paper`, with changes: four workers with a GPU each, evaluation batch 36."""
    return build(
        RunSpec,
        {
            "workers": 4,
            "use_gpu": True,
            "cpus_per_worker": 4,
            "eval_batch_size": 36,
            "checkpoint_every": 200,
            **changes,
        },
    )


PRESETS: dict[str, tuple[Callable[..., JobSpec], Callable[..., RunSpec]]] = {
    "tiny": (tiny, tiny_run),
    "paper": (paper, paper_run),
}


def preset(name: str, job: dict[str, Any] | None = None, run: dict[str, Any] | None = None) -> tuple[JobSpec, RunSpec]:
    """Return both specs of a preset.

    Args:
        name: `tiny` or `paper`.
        job: changes to the job's fields.
        run: changes to the run's fields.

    Raises:
        UserError: for an unknown preset, an unknown field or an impossible value.
    """
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}: use {' or '.join(PRESETS)}")
    make_job, make_run = PRESETS[name]
    return make_job(**(job or {})), make_run(**(run or {}))


def split_settings(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split settings, as from `--set field=value`, into those of the job and those of the run.

    Unknown names count as the job's, whose validation suggests the closest field.
    """
    run = {name: value for name, value in settings.items() if name in RunSpec.model_fields}
    job = {name: value for name, value in settings.items() if name not in RunSpec.model_fields}
    return job, run
