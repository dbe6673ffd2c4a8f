"""What a job is: `JobSpec` says everything that defines its result, `RunSpec` where and how it is carried out.

The split is what makes a fingerprint meaningful: two runs of one `JobSpec` are the same experiment, whatever the
machine, the number of workers or the evaluation batch. Every field carries its meaning, from which the command line,
the tracking server and the reports take theirs.
"""

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bridge_common.errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Spec = TypeVar("Spec", bound=BaseModel)


def _numbers(value: Any) -> Any:
    return [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, validated as a new object.

        Raises:
            UserError: for an unknown field or an impossible value, naming the field and what it takes.
        """
        return build(type(self), {**self.model_dump(), **changes})


class JobSpec(_Frozen):
    """Everything that defines the result of one translator job. Symbols as in the README: K soft tokens, d_s, d_t."""

    # The pair
    source: str = Field("embedded:source", description="frozen model that reads: folder, hub name, or embedded:source")
    source_revision: str | None = Field(None, description="hub revision of the source")
    target: str = Field("embedded:target", description="frozen model that answers: folder, hub name, embedded:target")
    target_revision: str | None = Field(None, description="hub revision of the target")
    source_layer: int = Field(
        -1, description="hidden state that is captured: 0 embeddings, n output of layer n, -1 the last layer's"
    )
    model_dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="dtype of frozen weights")

    # The task
    task: Literal["synthetic", "gsm8k", "math", "hotpotqa"] = Field("synthetic", description="what is solved")
    task_data: str | None = Field(None, description="folder with train.jsonl and test.jsonl instead of the hub's data")
    task_revision: str | None = Field(None, description="hub revision of the data set")
    num_fewshot: int = Field(0, ge=0, le=64, description="exemplars in the prompt, the same in training and evaluation")
    train_examples: Count | None = Field(None, description="training examples used; none means all")
    validation_examples: Count = Field(128, description="examples held out of train, on which the checkpoint is chosen")
    test_examples: Count | None = Field(None, description="test examples; none means all")
    max_new_tokens: Count = Field(256, description="limit of generated tokens")

    # The sequence
    layout: Literal["soft_plus_text", "soft_only"] = Field(
        "soft_plus_text", description="whether the target also reads the prompt"
    )
    soft_position: Literal["first", "before_question"] = Field(
        "first", description="soft tokens right after BOS, or between few-shot header and question"
    )
    injection: Literal["prepend", "residual", "adapter"] = Field(
        "prepend",
        description="soft tokens before the prompt, added to the question's embeddings, or read by adapters in layers",
    )
    adapter_layers: Annotated[tuple[int, ...], BeforeValidator(_numbers)] = Field(
        (), description="target layers with an adapter, from 1, e.g. 2,4; none means every second one"
    )
    prompt_share: Fraction = Field(
        0.0, description="under soft_only: share of training steps that see the prompt, falling linearly to 0"
    )

    # The bridge
    bridge: Literal["dit", "resampler", "dit_xattn"] = Field("dit", description="kind of bridge")
    soft_tokens: int = Field(64, ge=1, le=4096, description="K, soft tokens a question")
    hidden_size: int = Field(512, ge=8, description="width of the bridge")
    depth: int = Field(4, ge=1, le=64, description="blocks of the bridge")
    num_heads: int = Field(8, ge=1, description="attention heads of the bridge")
    sampler_steps: int = Field(4, ge=1, le=64, description="N, evaluations of the flow's sampler")
    flow_prediction: Literal["x1", "velocity"] = Field("x1", description="what the flow network predicts")
    flow_teacher: Literal["question", "answer", "none"] = Field(
        "question", description="text the flow learns to render"
    )
    pooling: Literal["mean", "attention"] = Field("mean", description="how source states become one condition")
    guidance_scale: float = Field(1.0, ge=0, le=20, description="classifier-free guidance; 1 means none")
    condition_dropout: Fraction = Field(0.1, description="share of training rows without condition")
    geometry_init: Literal["ridge", "procrustes"] = Field(
        "ridge", description="fit between the embedding tables from which geometry_projection starts"
    )

    # The four toggles of phase 1 (science of each: tune_spaces.design.toggles)
    kl_alignment: bool = Field(True, description="KL to the teacher on answer tokens; off: the misaligned first 20")
    prompt_alignment: bool = Field(True, description="weight 0.001 on the prompt alignment loss; off: 0.05")
    decode_aware: bool = Field(True, description="reinforce decoded answers (RLOO and on-policy distillation)")
    geometry_projection: bool = Field(True, description="bring source states into the target's tokens and space first")

    # The objective
    kl_weight: Weight = Field(0.03, description="weight of the KL to the text-only teacher")
    prompt_weight_on: Weight = Field(0.001, description="weight of prompt alignment where the toggle is on")
    prompt_weight_off: Weight = Field(0.05, description="weight of prompt alignment where the toggle is off")
    flow_weight: Weight = Field(0.1, description="weight of the flow loss")
    contrast_weight: Weight = Field(0.05, description="weight of InfoNCE between soft tokens and questions")
    contrast_temperature: float = Field(0.07, gt=0, description="temperature of InfoNCE")
    decode_weight: Weight = Field(0.1, description="weight of the RLOO loss")
    on_policy_distill: Weight = Field(0.1, description="weight of the KL to the teacher on generated tokens")
    decode_questions: Count = Field(4, description="questions in a decode-aware step, over all ranks")
    decode_samples: int = Field(4, ge=2, description="G, sampled completions a question")
    decode_temperature: float = Field(1.0, gt=0, description="temperature of those samples")

    # The optimiser
    steps: int = Field(2000, ge=0, description="optimiser steps")
    batch_size: Count = Field(8, description="examples a step over all workers (per-device batch times workers)")
    learning_rate: float = Field(3e-4, gt=0, description="peak learning rate of AdamW")
    warmup_steps: int = Field(100, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.01, ge=0, description="weight decay of AdamW")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="decay of the weights' moving average; 0 means none")

    # Evaluation and chance
    eval_every: Count = Field(200, description="steps between evaluations on the validation slice")
    eval_dtype: Literal["as_trained", "float64"] = Field(
        "as_trained", description="arithmetic of evaluation; float64 makes text independent of batch and padding"
    )
    seed: int = Field(0, ge=0, description="seed of initial weights, order of examples and training noise")
    noise_seed: int = Field(0, ge=0, description="seed of the noise in evaluation")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of num_heads {self.num_heads}")
        if self.layout == "soft_only" and self.soft_position == "before_question":
            raise ValueError("soft_position before_question needs layout soft_plus_text: soft_only has no header")
        if self.injection != "prepend" and self.layout == "soft_only":
            raise ValueError(f"injection {self.injection} needs layout soft_plus_text: soft_only has no question in it")
        if self.adapter_layers and self.injection != "adapter":
            raise ValueError("adapter_layers needs injection adapter")
        if self.prompt_share and self.layout != "soft_only":
            raise ValueError("prompt_share needs layout soft_only: under soft_plus_text every step sees the prompt")
        if self.decode_aware and self.decode_weight == 0 and self.on_policy_distill == 0:
            raise ValueError("decode_aware is on but decode_weight and on_policy_distill are both 0: set one of them")
        return self

    @property
    def prompt_weight(self) -> float:
        """The weight of prompt alignment under its toggle."""
        return self.prompt_weight_on if self.prompt_alignment else self.prompt_weight_off

    @property
    def inserted(self) -> int:
        """How many soft tokens stand in the target's sequence."""
        return self.soft_tokens if self.injection == "prepend" else 0


class RunSpec(_Frozen):
    """Where and how a job runs. Nothing here changes its result beyond the rounding of sums."""

    workers: int = Field(2, ge=1, description="worker processes, on one node")
    use_gpu: bool = Field(False, description="one GPU a worker")
    cpus_per_worker: float = Field(1.0, gt=0, description="CPUs reserved for each worker")
    eval_batch_size: Count = Field(64, description="examples decoded together by one worker")
    checkpoint_every: Count = Field(100, description="steps between checkpoints")
    log_every: Count = Field(1, description="steps between records of the loss terms")
    max_failures: int = Field(2, ge=0, description="restarts after a failed worker")
    autocast: bool = Field(True, description="bf16 autocast in training where the device has it")


def check_run(spec: JobSpec, run: RunSpec) -> None:
    """Refuse settings that no worker could carry out.

    Raises:
        UserError: when the batch does not divide among the workers.
    """
    if spec.batch_size % run.workers:
        raise UserError(
            f"batch_size {spec.batch_size} does not divide among {run.workers} workers: use a multiple of {run.workers}"
        )


def build(kind: type[Spec], values: dict[str, Any]) -> Spec:
    """Make a spec from plain values; strings are read as the field's type.

    Raises:
        UserError: one line that names each wrong field and what it takes.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError("; ".join(_explain(kind, problem) for problem in error.errors())) from error


def _explain(kind: type[BaseModel], problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        import difflib

        close = difflib.get_close_matches(name, kind.model_fields, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "`plan --help` lists the fields"
        return f"unknown field {name!r}: {hint}"
    if not name:
        return str(problem["msg"]).removeprefix("Value error, ")
    return f"{name}={problem['input']!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"
