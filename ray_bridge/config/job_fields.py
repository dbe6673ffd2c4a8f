"""The fields of a job, each with its default, its meaning and what its values do.

A field's description is the one place that says so; the command line and the documentation show it. `spec` adds what
the fields must satisfy together.
"""

import json
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ray_bridge.config.registry import Value
from ray_bridge.config.task_mapping import TaskMapping
from ray_bridge.config.task_needs import need_of
from ray_bridge.config.validation import Frozen

Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


def _split_commas(value: Any) -> Any:
    return [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _read_texts(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.startswith("["):
        try:
            return json.loads(value)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"no JSON list: {error}") from error
    return [part.replace("\\n", "\n").replace("\\t", "\t") for part in value.split(",") if part]


class JobFields(Frozen):
    """The fields of `JobSpec`.

    Symbols as in the README: K soft tokens a question; d_s and d_t, the hidden sizes of source and target.
    """

    # The pair of models
    source: str = Field(
        "embedded:source",
        description="frozen model that reads the question: a folder written by save_pretrained, a hub name, or "
        "embedded:source; random:NAME is the control with random weights in NAME's architecture",
    )
    source_revision: str | None = Field(
        None, description="hub revision of the source (branch, tag or commit); none means its main branch"
    )
    target: str = Field(
        "embedded:target",
        description="frozen model that answers: a folder written by save_pretrained, a hub name, or embedded:target",
    )
    target_revision: str | None = Field(
        None, description="hub revision of the target (branch, tag or commit); none means its main branch"
    )
    source_layer: int = Field(
        -1,
        description="hidden state of the source that the bridge reads: 0 the embeddings, n the output of layer n, "
        "-1 the last layer's",
    )
    latent_steps: int = Field(
        0,
        ge=0,
        le=512,
        description="m, steps that the source goes on after the prompt without writing tokens, each from the last "
        "hidden state before it; the bridge then reads these m states instead of source_layer's",
    )
    model_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="dtype of both frozen models' weights"
    )
    target_precision: Literal["full", "int8"] = Field(
        "full",
        description="of the frozen target's layers: full as model_dtype, or int8, weights of 8 bits with a scale a "
        "row, half of bfloat16's memory (needs torchao and eval_dtype=as_trained)",
    )

    target_shards: Count = Field(
        1, description="workers that hold the parts of one target; divides workers and the target's attention heads"
    )

    # Plug-ins: first, because they may register names that later fields use
    plugins: Annotated[tuple[str, ...], BeforeValidator(_split_commas)] = Field(
        (), description="modules imported in every process of the job before names are looked up, e.g. my_plugin"
    )

    # The task
    task: str = Field(
        "synthetic",
        description="data set with its prompt and scoring: synthetic (word problems with foreign number words, no "
        "download), gsm8k, math, hotpotqa, arc_challenge, openbookqa, mmlu_redux, ceval, mapped (by task_mapping), or "
        "a class as MODULE:CLASS",
    )
    task_mapping: TaskMapping | None = Field(
        None,
        description="for the tasks mapped, arc_challenge, openbookqa, mmlu_redux and ceval: which fields of a row hold "
        "what, and where the rows are; --task FILE.toml reads it from a file",
    )
    task_data: str | None = Field(
        None, description="folder with train.jsonl and test.jsonl, read instead of the hub's data set"
    )
    task_revision: str | None = Field(None, description="hub revision of the data set; none means its main branch")
    num_fewshot: int = Field(
        ge=0,
        le=64,
        default_factory=partial(need_of, "num_fewshot"),
        description="solved exemplars before the question, the same ones in training and evaluation; by default what "
        "the task needs (`tasks` lists it)",
    )
    train_examples: Count | None = Field(None, description="number of training examples; none means all")
    validation_examples: Count = Field(
        128, description="examples held out of the training split, on which the checkpoint is selected"
    )
    test_examples: Count | None = Field(
        None, description="number of test examples, on which every accuracy is reported; none means all"
    )
    max_new_tokens: Count = Field(
        default_factory=partial(need_of, "max_new_tokens"),
        description="most tokens generated for one answer; by default what the task needs (`tasks` lists it)",
    )
    stops: Annotated[tuple[str, ...] | None, BeforeValidator(_read_texts)] = Field(
        None,
        description="texts that end an answer, such as the opening of a further exemplar: with commas between them and "
        "\\n for a new line, or a JSON list; none means the task's own",
    )

    # The sequence that the target reads
    prompt_format: Literal["raw", "chat"] = Field(
        "raw",
        description="how both models read a prompt: raw gives the task's text as it is and lets it be continued, chat "
        "gives question and exemplars as turns of each model's own chat template, with the soft tokens inside the "
        "user's turn",
    )
    layout: Literal["soft_plus_text", "soft_only"] = Field(
        "soft_plus_text",
        description="what the target reads: soft_plus_text gives soft tokens and the prompt, soft_only gives soft "
        "tokens and a short instruction without the question",
    )
    soft_position: Literal["first", "before_question"] = Field(
        "first",
        description="place of the soft tokens: first puts them right after BOS, before_question between the few-shot "
        "header and the question, so that the header's keys and values are computed once",
    )
    injection: Literal["prepend", "residual", "adapter", "kv_prefix", "c2c"] = Field(
        "prepend",
        description="how soft tokens enter the target: prepend as tokens of the sequence, residual added to the "
        "question's embeddings through a gate, adapter read by gated cross-attention in some layers, kv_prefix made "
        "into keys and values of every layer, c2c (with bridge=c2c) fused into the keys and values of the question",
    )
    adapter_layers: Annotated[tuple[int, ...], BeforeValidator(_split_commas)] = Field(
        (),
        description="target layers that get an adapter under injection=adapter, counted from 1, as in 2,4; empty "
        "means every second layer",
    )
    gate_init: float = Field(
        0.0,
        description="initial value of the gates under injection=residual and adapter: at 0 the untrained target "
        "answers as it does alone, but hardly any gradient of its answers reaches the bridge",
    )
    prompt_share: Fraction = Field(
        0.0,
        description="curriculum of layout=soft_only: probability that the first step also shows the prompt; it falls "
        "linearly to 0 at the last step",
    )

    # The bridge
    bridge: str = Field(
        "dit",
        description="architecture: dit (diffusion transformer on one pooled source vector), dit_xattn (dit that also "
        "cross-attends to every source token), resampler (learned queries, no diffusion), linear (a regression on "
        "flow_teacher's text, fitted and not trained: steps=0), c2c (the source's keys and values, with "
        "injection=c2c), constant (a control: learned soft tokens without a source), or a class as MODULE:CLASS",
    )
    soft_tokens: int = Field(64, ge=1, le=4096, description="K, number of soft tokens made for each question")
    hidden_size: int = Field(512, ge=8, description="width of the bridge; a multiple of num_heads")
    depth: int = Field(4, ge=1, le=64, description="number of transformer blocks in the bridge")
    num_heads: int = Field(8, ge=1, description="attention heads in each block of the bridge")
    sampler_steps: int = Field(
        4, ge=1, le=64, description="N, Euler steps of the flow from noise to soft tokens, in training and evaluation"
    )
    flow_prediction: Literal["x1", "velocity"] = Field(
        "x1", description="what the flow network predicts: x1, the clean soft tokens, or the velocity x1 - x0"
    )
    flow_teacher: Literal["question", "answer", "none"] = Field(
        "question",
        description="text whose target embeddings are the data of the flow loss: the question, the gold answer, or "
        "none for no flow loss",
    )
    pooling: Literal["mean", "attention"] = Field(
        "mean",
        description="how dit and dit_xattn pool source states into one vector: mean weighs tokens equally, attention "
        "by learned queries, whose weights are plotted at every evaluation",
    )
    guidance_scale: float = Field(
        1.0,
        ge=0,
        le=20,
        description="classifier-free guidance of the flow: 1 means none, larger values follow the source more",
    )
    condition_dropout: Fraction = Field(
        0.1, description="share of training rows whose flow loss is computed without the source, as guidance needs"
    )
    geometry_init: Literal["ridge", "procrustes"] = Field(
        "ridge",
        description="fit between the two embedding tables from which the linear map of geometry_projection starts: "
        "ridge (regression) or procrustes (a rotation with one scale)",
    )

    # The four toggles of phase 1, registered with their papers in tune_spaces/design/toggles.py
    kl_alignment: bool = Field(
        True,
        description="toggle kl, column 'KL alignment': positions of the KL to the text-only teacher. True: answer "
        "tokens against the same answer tokens. False: the first 20 positions after the soft tokens against the "
        "first 20 of the text, as before the fix",
    )
    prompt_alignment: bool = Field(
        True,
        description="toggle prompt, column 'prompt weight': pull of soft tokens towards the question's embeddings. "
        "True: weight prompt_weight_on. False: weight prompt_weight_off, as before the fix",
    )
    decode_aware: bool = Field(
        True,
        description="toggle decode, column 'decode-aware': every eval_every steps, sample answers, reinforce the "
        "better ones (RLOO) and distil the text-only teacher on them. False: train on gold answers alone",
    )
    geometry_projection: bool = Field(
        True,
        description="toggle projection, column 'RoPE/tokenizer projection': bring source states to the target's "
        "tokens, embedding space and position code before the bridge. False: the bridge reads raw source states",
    )

    # The objective; the gold answer's likelihood has weight 1
    kl_weight: Weight = Field(0.03, description="weight of the KL to the text-only teacher; 0 leaves the term out")
    prompt_weight_on: Weight = Field(0.001, description="weight of prompt alignment if prompt_alignment is true")
    prompt_weight_off: Weight = Field(0.05, description="weight of prompt alignment if prompt_alignment is false")
    flow_weight: Weight = Field(0.1, description="weight of the flow-matching loss; dit and dit_xattn only")
    contrast_weight: Weight = Field(
        0.05, description="weight of InfoNCE, by which soft tokens must pick their own question in the batch"
    )
    contrast_temperature: float = Field(0.07, gt=0, description="temperature of InfoNCE; smaller is sharper")
    decode_weight: Weight = Field(0.1, description="weight of the RLOO loss under decode_aware")
    on_policy_distill: Weight = Field(
        0.1, description="weight of the KL to the text-only teacher on sampled tokens under decode_aware"
    )
    decode_questions: Count = Field(4, description="questions sampled in a decode-aware step, over all workers")
    decode_samples: int = Field(4, ge=2, description="G, completions sampled for each of those questions")
    decode_temperature: float = Field(1.0, gt=0, description="sampling temperature of those completions")

    # The optimiser
    steps: int = Field(2000, ge=0, description="optimiser steps; 0 evaluates the untrained bridge")
    batch_size: Count = Field(8, description="examples a step, over all workers; a multiple of workers")
    learning_rate: float = Field(3e-4, gt=0, description="peak learning rate of AdamW, before cosine decay to 0")
    warmup_steps: int = Field(100, ge=0, description="steps over which the learning rate rises linearly to its peak")
    weight_decay: float = Field(0.01, ge=0, description="weight decay of AdamW")
    clip_norm: float = Field(1.0, gt=0, description="largest global norm of the gradient; a larger one is scaled down")
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of the weights' moving average, which is then evaluated and selected; 0 means none",
    )

    # Evaluation and randomness
    eval_every: Count = Field(
        200, description="steps between evaluations on the validation examples, and between decode-aware steps"
    )
    eval_dtype: Literal["as_trained", "float64"] = Field(
        "as_trained",
        description="arithmetic of evaluation: as_trained, or float64, whose text does not depend on batch or padding",
    )
    batch_invariant: bool = Field(
        False,
        description="whether evaluation computes each answer in a way that depends on no other example, so that batch, "
        "workers and order do not change it, nor in half precision: slower (docs/reliability.md)",
    )
    text_budgets: Annotated[tuple[Count, ...], BeforeValidator(_split_commas)] = Field(
        (),
        description="numbers of tokens, as in 64,128, at which the final evaluation also gives the target text instead "
        "of soft tokens: the question cut, the source's summary, the beginning of the source's answer; empty means no "
        "such baselines",
    )
    seed: int = Field(0, ge=0, description="seed of initial weights, order of examples and all noise in training")
    noise_seed: int = Field(0, ge=0, description="seed of the noise in evaluation, used with each example's id alone")

    extra: dict[str, Value] = Field({}, description="settings that the classes of task and bridge add, as extra.NAME")

    @property
    def prompt_weight(self) -> float:
        """Weight of prompt alignment, as its toggle chooses it."""
        return self.prompt_weight_on if self.prompt_alignment else self.prompt_weight_off

    @property
    def writes_cache(self) -> bool:
        """Whether what is transferred enters the target as keys and values, of each row its own."""
        return self.injection in ("kv_prefix", "c2c")

    @property
    def fixed_shapes(self) -> bool:
        """Whether evaluation computes in shapes of a row alone; in float64 no text depends on rounding anyway."""
        return self.batch_invariant and self.eval_dtype != "float64"

    @property
    def inserted(self) -> int:
        """Number of soft tokens in the target's sequence: K under `prepend`, else 0."""
        return self.soft_tokens if self.injection == "prepend" else 0
