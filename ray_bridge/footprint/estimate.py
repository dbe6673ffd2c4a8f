"""Memory that a worker of a job needs on its device, by part, before anything is loaded.

Under `target_shards` a worker holds its part of the target, and its rows are those of its group.
What stays (weights, the bridge with its optimiser, the few-shot header's states) adds up; of the parts that come and go
(a training step, a decode-aware step, an evaluation) the largest counts. The estimate leaves out what adapts to the
memory that is free: with CUDA graphs, as many rows are decoded at once as fit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray_bridge.config.run_spec import RunSpec
from ray_bridge.config.spec import JobSpec
from ray_bridge.footprint.activations import FP32, bridge_bytes, kept_bytes, recomputed_bytes, trained_parameters
from ray_bridge.footprint.flops import layer_weights
from ray_bridge.footprint.model_shape import ModelShape
from ray_bridge.footprint.shards import part_of

if TYPE_CHECKING:  # measuring lengths takes PyTorch
    from ray_bridge.footprint.lengths import TextLengths

LIBRARIES = 1.2e9
"""Bytes allowed for CUDA's context and its libraries' and NCCL's buffers on a GPU."""
USABLE = 0.94
"""Share of a device's memory that tensors can fill; the rest is the allocator's and other programs'."""
CHUNK = 256  # rows of logits at once, as `objectives/chunked_vocabulary.py`
MICRO_TOKENS = 4096  # positions of a micro-batch, as `objectives/decode_aware.py`
PREFILL_TOKENS = 16_384  # positions of a forward pass over prompts, as `generation/graphed_batch.py`
FIXED_ROWS, FIXED_BUCKET = 64, 512  # rows and slots of a batch under `batch_invariant`, as `generation/fixed_shape.py`
STORED_EXAMPLES = 1024  # whose states stay mapped, as `caching/frozen_states.py`
HEADER = "few-shot header"
"""Name of the part that holds its states."""
INSTRUCTION = 32
"""Tokens of the instruction that stands in for the prompt under `soft_only`, at most."""
OF_LOGIT = 40
"""Bytes for each logit of a chunk under NLL and KL: both models' logits, log-softmaxes and gradients in fp32."""


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes on the device of one worker.

    Attributes:
        stays: by part, what is held all the time.
        passing: by part, what one at a time is held besides.
        recomputed: whether the longest training pass runs its layers again in the backward pass.
        saved: what `a training step` would take less if it did; 0 if it does.
        host: bytes of the host's memory in which a worker keeps stored states of the frozen models.
    """

    stays: dict[str, int]
    passing: dict[str, int]
    recomputed: bool
    saved: int
    host: int = 0

    @property
    def total(self) -> int:
        """Bytes at the largest moment."""
        return sum(self.stays.values()) + max(self.passing.values(), default=0)

    @property
    def textless(self) -> int:
        """Bytes that are held however short a job's texts are."""
        return sum(size for part, size in self.stays.items() if part != HEADER)

    @property
    def largest(self) -> str:
        """The part that passes and takes most."""
        return max(self.passing, key=lambda part: self.passing[part])

    def line(self) -> str:
        """Return the parts in one line, in GB."""
        parts = [f"{part} {_gb(size)}" for part, size in self.stays.items() if size >= 1e8]
        again = ", layers run again" if self.recomputed else ""
        parts += [
            f"{part} {_gb(size)}{again if part == 'a training step' else ''}"
            for part, size in self.passing.items()
            if size >= 1e8
        ]
        host = f", and up to {_gb(self.host)} GB of the host's for stored states" if self.host >= 1e8 else ""
        return f"{_gb(self.total)} GB at most ({'; '.join(parts)}{host})"


def resident_bytes(
    spec: JobSpec, source: ModelShape, target: ModelShape, *, gpu: bool, trained: int | None = None
) -> dict[str, int]:
    """Return by part what a worker holds all the time, without the few-shot header.

    Args:
        spec: the job.
        source: sizes of the source.
        target: sizes of the target.
        gpu: whether the device is a GPU.
        trained: number of trained parameters, if it is known exactly.
    """
    size = 4 if spec.model_dtype == "float32" else 2
    of_weights = size + (8 if spec.eval_dtype == "float64" else 0)  # evaluation has copies of its own
    trained = trained_parameters(spec, source, target) if trained is None else trained
    part = part_of(target, spec.target_shards)
    # Weights, gradient, two moments, the flat gradient before and after its sum, the best weights, evaluation's copy.
    copies = 8 + (1 if spec.ema_decay else 0)
    return {
        "source": source.parameters * of_weights,
        "target": _in_eight_bits(part, size) if spec.target_precision == "int8" else part.parameters * of_weights,
        "bridge and optimiser": trained * FP32 * copies,
        "libraries": int(LIBRARIES) if gpu else 0,
    }


def _in_eight_bits(target: ModelShape, size: int) -> int:
    """Return the bytes of a target whose layers' products have 8 bits, and a scale a row, which is left out."""
    layers = target.layers * layer_weights(target)
    return layers + (target.parameters - layers) * size


def estimate_memory(
    spec: JobSpec,
    run: RunSpec,
    source: ModelShape,
    target: ModelShape,
    lengths: "tuple[TextLengths, TextLengths]",
    *,
    capacity: float | None = None,
) -> MemoryEstimate:
    """Estimate the memory of a job's worker.

    Args:
        spec: the job.
        run: how it is carried out.
        source: sizes of the source.
        target: sizes of the target.
        lengths: its longest texts for source and target.
        capacity: bytes of the device, from which the budget of recomputation follows unless `run` sets it; None takes
            as much as is needed to keep everything.
    """
    gpu, size = run.use_gpu, 4 if spec.model_dtype == "float32" else 2
    stays = resident_bytes(spec, source, target, gpu=gpu)
    whole, target = target, part_of(target, spec.target_shards)
    groups = run.workers // spec.target_shards
    own = lengths[1]
    header = own.header if spec.layout == "soft_plus_text" else 0
    shared = spec.injection != "adapter" and not spec.writes_cache
    cached = header if spec.soft_position == "before_question" and shared else 0
    # Read once for the source, for the text-only rows and, after the soft tokens' place, for the student's.
    stays[HEADER] = 2 * size * (source.kv_elements(lengths[0].header) + target.kv_elements(own.header))
    rows = -(-spec.batch_size // groups)
    prompt = own.prompt if spec.layout == "soft_plus_text" or spec.prompt_share else INSTRUCTION
    length = spec.inserted + header - cached + prompt + own.answer
    past = spec.soft_tokens if spec.injection == "kv_prefix" else cached
    fused = gpu and target.fused and not spec.writes_cache
    way = {"past": past, "size": size, "kernels": gpu and size == 2 and not spec.writes_cache, "fused": fused}
    kept = kept_bytes(target, rows, length, **way)  # type: ignore[arg-type]
    again = recomputed_bytes(target, rows, length, shards=spec.target_shards, **way)  # type: ignore[arg-type]
    budget = run.recompute_tokens
    if budget is None and capacity is not None:
        budget = positions_that_fit(spec, run, source, whole, capacity)
    recomputed = budget is not None and rows * length > budget
    others = bridge_bytes(spec, rows, lengths[0].prompt) + CHUNK * target.vocabulary * OF_LOGIT
    passing = {"a training step": (again if recomputed else kept) + others}
    if spec.decode_aware:
        passing["a decode-aware step"] = _decode_aware(spec, run, target, own, way)
    passing["an evaluation"] = max(
        _evaluation(
            spec, run, source, lengths[0].header + lengths[0].prompt, size, lengths[0].header, fused=source.fused
        ),
        _evaluation(
            spec,
            run,
            target,
            _longest_prompt(spec, *lengths),
            size,
            # With caches of rows, only baselines are decoded in batches.
            header if spec.writes_cache else cached,
            fused=target.fused and spec.target_precision == "full",
        ),
    )
    states = lengths[0].prompt * source.hidden + own.answer * target.hidden
    return MemoryEstimate(
        stays=stays,
        passing=passing,
        recomputed=recomputed,
        saved=0 if recomputed else max(0, kept - again),
        host=STORED_EXAMPLES * states * size,
    )


def positions_that_fit(
    spec: JobSpec,
    run: RunSpec,
    source: ModelShape,
    target: ModelShape,
    capacity: float,
    *,
    trained: int | None = None,
    fused: bool | None = None,
) -> int:
    """Return how many positions a training pass may have whose layers' activations are all kept.

    Half of what the parts that stay leave free: captured graphs hold as much again as eager passes do.

    Args:
        spec: the job.
        run: how it is carried out.
        source: sizes of the source.
        target: sizes of the target.
        capacity: bytes of the device.
        trained: number of trained parameters, if it is known exactly.
        fused: whether the target's layers are fused, if it is known.
    """
    gpu, size = run.use_gpu, 4 if spec.model_dtype == "float32" else 2
    stays = sum(resident_bytes(spec, source, target, gpu=gpu, trained=trained).values())
    target, groups = part_of(target, spec.target_shards), run.workers // spec.target_shards
    rows = -(-spec.batch_size // groups)
    others = bridge_bytes(spec, rows, 256) + CHUNK * target.vocabulary * OF_LOGIT
    free = USABLE * capacity - stays - others
    fused = gpu and (target.fused if fused is None else fused)
    of_position = kept_bytes(target, 1, 1024, past=0, size=size, kernels=gpu and size == 2, fused=fused) / 1024
    return max(0, int(free / 2 / of_position))


def _decode_aware(spec: JobSpec, run: RunSpec, target: ModelShape, own: "TextLengths", way: Mapping[str, int]) -> int:
    size = way["size"]
    length = spec.inserted + own.header + own.prompt + spec.max_new_tokens
    completions = -(-spec.decode_questions * spec.decode_samples // (run.workers // spec.target_shards))
    caches = target.kv_elements(min(completions, run.eval_batch_size) * length) * size
    rows = max(1, MICRO_TOKENS // length)
    layers = recomputed_bytes(target, rows, length, shards=spec.target_shards, **way)  # type: ignore[arg-type]
    logits = rows * spec.max_new_tokens * target.vocabulary * OF_LOGIT
    return max(caches, layers + logits)


def _longest_prompt(spec: JobSpec, read: "TextLengths", own: "TextLengths") -> int:
    """Return the target's longest prompt of all conditions: with soft tokens, or with the source's whole answer.

    Baselines read the prompt also where soft tokens stand in its place.
    """
    # In the target's tokens: as many more as the target takes for the data's own answers.
    answer = math.ceil(spec.max_new_tokens * max(1.0, own.answer / max(1, read.answer)))
    return own.header + own.prompt + max(spec.inserted, own.written + answer)


def _evaluation(
    spec: JobSpec, run: RunSpec, lm: ModelShape, prompt: int, size: int, cached: int, *, fused: bool
) -> int:
    """Return what decoding takes: with graphs of one row, since as many more are decoded as fit.

    Under `batch_invariant` that many rows must fit as a batch has. Fused layers store `cached` positions of a header
    once for all of them, transformers' own store them in every row.
    """
    size = 8 if spec.eval_dtype == "float64" else size
    length = prompt + spec.max_new_tokens
    graphs = run.use_gpu and lm.fused
    if spec.fixed_shapes:
        slots = -(-(length - cached) // FIXED_BUCKET) * FIXED_BUCKET
        batched = run.use_gpu and (fused or lm.attends_fully(cached + slots))
        held = FIXED_ROWS * (slots if fused else cached + slots) if batched else length
        return lm.kv_elements(held) * size + 6 * length * lm.intermediate * size // 2
    rows = 1 if graphs else run.eval_batch_size
    positions = PREFILL_TOKENS if graphs else rows * length
    return lm.kv_elements(rows * length) * size + 6 * positions * lm.intermediate * size // 2


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f}"
