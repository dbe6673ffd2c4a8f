"""Context and memory that the trials of a phase need, judged in the driver before anything is reserved.

Only models whose configuration is on this machine can be judged; for others the line says "not checked".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cluster.preflight.check import Check, Status
from ray_bridge.config.run_spec import RunSpec
from ray_bridge.config.spec import JobSpec
from ray_bridge.footprint.context import REMEDY, too_long
from ray_bridge.footprint.estimate import USABLE, MemoryEstimate, estimate_memory
from ray_bridge.footprint.lengths import TextLengths
from ray_bridge.footprint.model_shape import ModelShape, read_shape
from ray_bridge.footprint.shards import divisors
from ray_bridge.inputs.text_lengths import text_lengths

ASSUMED_GPU = 80e9
"""Bytes of a GPU of which nothing is known."""
CLEARLY = 0.9
"""A trial is refused if this share of its estimate exceeds the device's memory: the estimate is within a seventh."""
_TEXTS = (
    *("source", "source_revision", "target", "target_revision", "prompt_format"),
    *("task", "task_data", "task_mapping", "task_revision", "num_fewshot"),
    *("train_examples", "validation_examples", "test_examples"),
)
"""Fields on which the lengths of texts depend."""
_MATTERS = (
    *_TEXTS,
    *("model_dtype", "eval_dtype", "max_new_tokens", "layout", "soft_position", "injection", "prompt_share"),
    *("bridge", "soft_tokens", "hidden_size", "depth", "sampler_steps", "geometry_projection"),
    *("decode_aware", "decode_questions", "decode_samples", "batch_size", "ema_decay", "target_shards"),
    *("target_precision", "batch_invariant"),
)
"""Fields on which context and memory depend."""


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """What one trial needs, and all that are like it.

    Attributes:
        trial: name of the first of them.
        spec: its job.
        source: sizes of its source, None if the configuration is not on this machine.
        target: sizes of its target, likewise.
        lengths: its longest texts for source and target, None if they are not known.
    """

    trial: str
    spec: JobSpec
    source: ModelShape | None
    target: ModelShape | None
    lengths: tuple[TextLengths | None, TextLengths | None]

    def known(self) -> tuple[ModelShape, ModelShape, TextLengths, TextLengths] | None:
        """Return sizes of source and target and their longest texts; None if one of them is not known."""
        read, own = self.lengths
        if self.source is None or self.target is None or read is None or own is None:
            return None
        return self.source, self.target, read, own

    def not_checked(self) -> str:
        """Return why nothing can be said, if that is so."""
        pairs = ((self.spec.source, self.source), (self.spec.target, self.target))
        absent = [name for name, shape in pairs if shape is None] or [self.spec.source, self.spec.target]
        return f"{self.trial}: not checked, since this machine does not have {' and '.join(dict.fromkeys(absent))}"

    def context(self) -> Check:
        """Compare the longest texts with both models' contexts."""
        if (known := self.known()) is None:
            return Check(name="context", status="skip", detail=self.not_checked())
        source, target, read, own = known
        spec, new = self.spec, self.spec.max_new_tokens
        soft = spec.inserted if spec.layout == "soft_plus_text" else 0
        with_soft = f"with {soft} soft tokens and " if soft else "with "
        # The source's answer in the target's tokens: as many more as the target takes for the data's own answers.
        written = math.ceil(new * max(1.0, own.answer / max(1, read.answer)))
        texts = [
            (source, read.header + read.prompt + new, f"the longest prompt with {new} new tokens"),
            (target, soft + own.header + own.prompt + new, f"the longest prompt {with_soft}{new} new tokens"),
            (target, soft + own.header + own.answered, f"the longest prompt {with_soft}its answer"),
        ]
        if steps := spec.latent_steps:
            texts.append((source, read.header + read.prompt + steps, f"the longest prompt with {steps} latent steps"))
        # Last, since it is not certain: a job cuts the source's answer where it would be too long.
        texts.append(
            (
                target,
                own.header + own.written + own.prompt + written + new,
                f"text_bridge (the longest prompt with the source's answer and {new} new tokens)",
            )
        )
        problems = [too_long(shape.name, shape.context, needed, text) for shape, needed, text in texts]
        problem = next((text for text in problems if text), None)
        if problem is None:
            longest = max(needed for _, needed, _ in texts)
            limits = " and ".join(
                "any" if shape.context is None else f"{shape.context:,}" for shape in (source, target)
            )
            detail = f"{self.trial}: {longest:,} positions at most, of {limits} ({own.source})"
            return Check(name="context", status="pass", detail=detail)
        # Most answers of the source are far shorter than what may be written.
        certain = own.measured and read.measured and "text_bridge" not in problem
        status: Status = "fail" if certain else "warn"
        return Check(name="context", status=status, detail=f"{self.trial}: {problem} ({own.source})", remedy=REMEDY)

    def estimate(self, run: RunSpec, capacity: float | None) -> MemoryEstimate | None:
        """Return the memory of a worker; None if nothing can be said."""
        if (known := self.known()) is None:
            return None
        source, target, read, own = known
        return estimate_memory(self.spec, run, source, target, (read, own), capacity=capacity)

    def memory(self, run: RunSpec, capacity: float, node: str = "", note: str = "") -> Check:
        """Compare the memory of a worker with its device's.

        Args:
            run: how the trial is carried out.
            capacity: bytes of a GPU, or of the host's memory for each worker.
            node: address of the node.
            note: where the capacity is from, if it was not seen.
        """
        estimate = self.estimate(run, capacity)
        if estimate is None:
            return Check(name="memory", status="skip", detail=self.not_checked(), node=node)
        device = "GPU" if run.use_gpu else "worker's share of the memory"
        detail = f"{self.trial}: {estimate.line()} of {capacity / 1e9:.0f} GB on each {device}{note}"
        if estimate.total <= USABLE * capacity:
            return Check(name="memory", status="pass", detail=detail, node=node)
        status: Status = "fail" if CLEARLY * estimate.total > capacity else "warn"
        remedy = self._remedy(estimate, run, capacity)
        return Check(name="memory", status=status, detail=detail, remedy=remedy, node=node)

    def _remedy(self, estimate: MemoryEstimate, run: RunSpec, capacity: float) -> str:
        shards = self._shards_that_fit(run, capacity) if estimate.stays["target"] > capacity / 2 else None
        spread = "" if shards is None else f"spread the target over GPUs (target_shards={shards}), or "
        if sum(estimate.stays.values()) > USABLE * capacity:
            half = ", or model_dtype=bfloat16" if self.spec.model_dtype == "float32" else ""
            return f"{spread}use larger GPUs or smaller models{half}"
        if estimate.largest == "a training step":
            again = "run layers again in the backward pass (recompute_tokens=0), " if estimate.saved else ""
            return f"{spread}{again}lower num_fewshot, batch_size or soft_tokens, or share the batch among more workers"
        if estimate.largest == "an evaluation" and self.spec.fixed_shapes:
            return f"{spread}use batch_invariant=false, or lower num_fewshot, soft_tokens or max_new_tokens"
        if estimate.largest == "an evaluation":
            return f"{spread}lower eval_batch_size, num_fewshot or max_new_tokens"
        return f"{spread}lower decode_questions, num_fewshot or max_new_tokens"

    def _shards_that_fit(self, run: RunSpec, capacity: float) -> int | None:
        """Return the fewest parts of the target with which a run fits, None if none do."""
        if self.target is None:
            return None
        for shards in divisors(self.target):
            if shards <= self.spec.target_shards or run.workers % shards:
                continue
            estimate = replace(self, spec=self.spec.replace(target_shards=shards)).estimate(run, capacity)
            if estimate is not None and estimate.total <= USABLE * capacity:
                return shards
        return None


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What the trials of a phase need, those that need the same once.

    Attributes:
        trials: the jobs by the name of their trial.
        run: how they are carried out.
    """

    trials: Mapping[str, JobSpec]
    run: RunSpec

    @cached_property
    def different(self) -> Sequence[Requirement]:
        """The trials that differ in what they need."""
        first: dict[str, tuple[str, JobSpec]] = {}
        for name, spec in self.trials.items():
            first.setdefault(_fields(spec, _MATTERS), (name, spec))
        lengths: dict[str, _Lengths] = {}  # data are read once, however many variants there are
        return [_require(name, spec, lengths) for name, spec in first.values()]

    def context(self) -> list[Check]:
        """Return a check of the context for each of them."""
        return [requirement.context() for requirement in self.different]

    def memory(self, capacity: float, node: str = "", note: str = "") -> list[Check]:
        """Return a check of the memory for each of them; see `Requirement.memory`."""
        return [requirement.memory(self.run, capacity, node, note) for requirement in self.different]


_Lengths = tuple[TextLengths | None, TextLengths | None]


def _fields(spec: JobSpec, names: Sequence[str]) -> str:
    values = spec.flat()
    return repr([values.get(name) for name in names])


def _require(name: str, spec: JobSpec, known: dict[str, _Lengths]) -> Requirement:
    source, target = (
        read_shape(spec.source, spec.source_revision),
        read_shape(spec.target, spec.target_revision),
    )
    lengths: _Lengths = (None, None)
    if source is not None and target is not None:
        key = _fields(spec, _TEXTS)
        if key not in known:
            known[key] = text_lengths(spec)
        lengths = known[key]
    return Requirement(
        trial=name,
        spec=spec,
        source=source,
        target=target,
        lengths=lengths,
    )
