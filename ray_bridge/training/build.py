"""Assemble what a training loop works with: data, frozen models, translator, optimiser, objective, evaluator."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ray_bridge.bridges.translator import TranslatorModule, build_translator
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.caching.source_states import SourceStates
from ray_bridge.caching.teacher_states import TeacherStates
from ray_bridge.config.run_spec import RunSpec
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.footprint.estimate import positions_that_fit
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.shape import shape_of
from ray_bridge.models.sharding.group import ShardGroup
from ray_bridge.objectives.decode_aware import decode_terms
from ray_bridge.objectives.forward_passes import ForwardPasses
from ray_bridge.objectives.objective import WeightedTerm, objective_terms
from ray_bridge.tasks.splits import Splits, load_splits
from ray_bridge.tasks.task import Example
from ray_bridge.training.resident_models import ResidentModels
from ray_bridge.training.startup_timer import StartupTimer


@dataclass(frozen=True, kw_only=True)
class TrainingParts:
    """The objects of one worker's part of a job.

    Attributes:
        splits: task, training, validation and test examples.
        pair: the frozen models with their encoder, in training's arithmetic.
        source_states: the source's states of training examples, computed ahead of the steps where that pays.
        teacher_states: the teacher's states of their answers, likewise.
        translator: what is trained.
        parameters: its parameters.
        optimiser: AdamW over them.
        terms: the weighted terms of the objective, in the order in which a step computes them.
        passes: how a step runs its forward passes.
        evaluator: decodes and scores examples, in evaluation's arithmetic.
    """

    splits: Splits
    pair: ModelPair
    source_states: SourceStates
    teacher_states: TeacherStates
    translator: TranslatorModule
    parameters: list[torch.nn.Parameter]
    optimiser: torch.optim.Optimizer
    terms: list[WeightedTerm]
    passes: ForwardPasses
    evaluator: Evaluator


def build_parts(
    spec: JobSpec,
    run: RunSpec,
    worker: Worker,
    cache: Path | None,
    startup: StartupTimer,
    models: ResidentModels | None = None,
) -> TrainingParts:
    """Load the data and the frozen models, and build what trains and evaluates a translator between them.

    Args:
        spec: the job.
        run: how it is carried out.
        worker: this process; the models are loaded onto its device.
        cache: folder of files that trials on a node share, or None to share nothing.
        startup: records the time of the stages `models` and `translator`.
        models: keeps the frozen models for this process's next job; None loads them for this one alone.

    Raises:
        UserError: if data or a checkpoint cannot be loaded, or a setting does not fit the models.
    """
    splits = load_splits(spec)
    if models is None:
        pair = ModelPair.load(spec, splits, worker.device, shards=ShardGroup.of(worker))
    else:
        pair = models.pair(spec, splits, worker)
    startup.done("models")
    source_states, teacher_states = _frozen_states(spec, pair, splits, cache)
    node_cache = NodeCache(cache)
    translator = build_translator(spec, pair.source, pair.target, pair.fit_once(node_cache, worker))
    if spec.writes_cache:  # fitted to the target, whose sums may round differently on each worker
        for weights in translator.injection.parameters():
            worker.broadcast(weights.data)
    parameters = [p for p in translator.parameters() if p.requires_grad]
    # Decode-aware terms come first, so that their peak of memory does not add to what the other terms keep.
    decode_aware = decode_terms(spec, pair, splits.train, batch_size=run.eval_batch_size)
    recompute_above = run.recompute_tokens
    if recompute_above is None:
        recompute_above = positions_that_fit(
            spec,
            run,
            shape_of(pair.source),
            shape_of(pair.target),
            device_bytes(worker.device, run.workers),
            trained=sum(p.numel() for p in parameters),
            fused=pair.target.body is not None,
        )
        if pair.target.shards is not None:  # a layer that runs again communicates again
            recompute_above = int(pair.target.shards.least(recompute_above))
    parts = TrainingParts(
        splits=splits,
        pair=pair,
        source_states=source_states,
        teacher_states=teacher_states,
        translator=translator,
        parameters=parameters,
        optimiser=_optimiser(spec, parameters, worker.device),
        terms=[*decode_aware, *objective_terms(spec)],
        passes=ForwardPasses(translator, pair.target, recompute_above=recompute_above),
        evaluator=Evaluator(pair.for_evaluation(), worker, run.eval_batch_size, node_cache),
    )
    startup.done("translator")
    return parts


def device_bytes(device: torch.device, workers: int) -> float:
    """Return the memory of a worker's device: a GPU's, or its share of the host's."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[1])
    import psutil

    return float(psutil.virtual_memory().total) / workers


def _frozen_states(
    spec: JobSpec, pair: ModelPair, splits: Splits, cache: Path | None
) -> tuple[SourceStates, TeacherStates]:
    # Reading every training example ahead, in large batches, pays if the steps ask for each at least once.
    every_example_is_used = spec.steps * spec.batch_size >= len(splits.train)
    used: Sequence[Example] = splits.train if every_example_is_used else ()
    for_source = used if spec.bridge != "c2c" else ()  # a cache is as large as all layers' states
    # The misaligned KL compares other positions than the kept ones.
    for_teacher = used if spec.kl_alignment and spec.kl_weight > 0 else ()
    source_id = pair.digest_of(pair.source) if for_source else None
    target_id = pair.digest_of(pair.target) if for_teacher else None
    return (
        SourceStates(
            pair.source,
            pair.encoder,
            for_source,
            spec.source_layer,
            source_id,
            cache,
            latent_steps=spec.latent_steps,
            read=pair.read_source,
        ),
        TeacherStates(pair.target, pair.encoder, for_teacher, target_id, cache),
    )


def _optimiser(spec: JobSpec, parameters: Sequence[torch.nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        parameters,
        lr=spec.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=spec.weight_decay,
        fused=device.type == "cuda",
    )
