"""The two configurations people start from; every other one is a small change to them.

`tiny` runs on two CPU cores in minutes with the models that ship in the package; `paper` is the configuration
`1b_dit_4step_64tok_soft_plus_text` of the plan, on four GPUs of one node.
"""

from collections.abc import Callable
from typing import Any

from bridge_common.errors import UserError
from ray_bridge.config.spec import JobSpec, RunSpec
from ray_bridge.config.validation import build


def tiny(**changes: Any) -> JobSpec:
    """The embedded pair on the synthetic task: minutes on two cores."""
    values: dict[str, Any] = {
        # Where linear probes read the value of a number word best (ray_bridge/embedded_pair/README.md).
        "source_layer": 3,
        "bridge": "dit_xattn",
        "soft_tokens": 16,
        "hidden_size": 128,
        "depth": 2,
        "num_heads": 4,
        "geometry_init": "procrustes",  # keeps what ridge shrinks
        # Only the few tokens of a number are uncertain here, so the likelihood per token is small: so are these.
        "flow_weight": 0.01,
        "contrast_weight": 0.005,
        "train_examples": 20_000,
        "validation_examples": 128,
        "test_examples": 500,
        "max_new_tokens": 72,
        "steps": 400,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "warmup_steps": 20,
        "eval_every": 100,
        "eval_dtype": "float64",
    }
    return build(JobSpec, {**values, **changes})


def paper(**changes: Any) -> JobSpec:
    """Mistral-7B to Llama-3.1-8B on GSM8K, eight exemplars: per-device batch 2 on four GPUs."""
    values: dict[str, Any] = {
        "source": "mistralai/Mistral-7B-Instruct-v0.3",
        "target": "meta-llama/Llama-3.1-8B-Instruct",
        "source_layer": 24,
        "model_dtype": "bfloat16",
        "task": "gsm8k",
        "num_fewshot": 8,
        "validation_examples": 200,
        "soft_tokens": 64,
        "hidden_size": 1024,
        "depth": 6,
        "num_heads": 16,
        "max_new_tokens": 256,
        "steps": 2000,
        "batch_size": 8,
        "learning_rate": 1e-4,
        "warmup_steps": 100,
        "eval_every": 200,
    }
    return build(JobSpec, {**values, **changes})


def tiny_run(**changes: Any) -> RunSpec:
    """Two gloo workers on CPU."""
    return build(RunSpec, {"workers": 2, "eval_batch_size": 64, "checkpoint_every": 100, **changes})


def paper_run(**changes: Any) -> RunSpec:
    """Four GPU workers packed on one node, evaluation batch 36 as in the plan."""
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
    """Both specs of a preset, with changes.

    Raises:
        UserError: for an unknown preset, an unknown field or an impossible value.
    """
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}: use {' or '.join(PRESETS)}")
    make_job, make_run = PRESETS[name]
    return make_job(**(job or {})), make_run(**(run or {}))


def split_settings(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part `--set field=value` settings into those of the job and those of the run.

    Unknown names stay with the job's, whose validation names the closest field.
    """
    run = {name: value for name, value in settings.items() if name in RunSpec.model_fields}
    job = {name: value for name, value in settings.items() if name not in RunSpec.model_fields}
    return job, run
