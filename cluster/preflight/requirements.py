"""Context and memory that the trials of a phase need, judged in the driver before anything is reserved.

Memory is judged by the configurations on this machine and the published sizes of the models that presets and phases
name; the context needs both tokenizers, too. Of other models the line says "not checked".
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from cluster.preflight.check import Check, Status
from ray_bridge.config.fields_read import SharedResults
from ray_bridge.config.run_spec import RunSpec
from ray_bridge.config.spec import JobSpec
from ray_bridge.footprint.context import REMEDY, too_long
from ray_bridge.footprint.estimate import USABLE, MemoryEstimate, estimate_memory
from ray_bridge.footprint.known_models import known_shape
from ray_bridge.footprint.lengths import TextLengths, assume
from ray_bridge.footprint.model_shape import ModelShape, read_shape
from ray_bridge.footprint.shards import divisors
from ray_bridge.inputs.text_lengths import text_lengths

ASSUMED_GPU = 80e9
"""Bytes of a GPU of which nothing is known."""
CLEARLY = 0.9
"""A trial is refused if this share of its estimate exceeds the device's memory: the estimate is within a seventh."""


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """What one trial needs.

    Attributes:
        spec: its job.
        source: sizes of its source, None if they are not known.
        target: sizes of its target, likewise.
        lengths: its longest texts for source and target, None if they are not known.
        absent: those of its models whose configuration is not on this machine; their sizes may be known all the same.
    """

    spec: JobSpec
    source: ModelShape | None
    target: ModelShape | None
    lengths: tuple[TextLengths | None, TextLengths | None]
    absent: tuple[str, ...]

    def known(self) -> tuple[ModelShape, ModelShape, TextLengths, TextLengths] | None:
        """Return sizes of source and target and their longest texts; None if files of a model are not here."""
        read, own = self.lengths
        if self.source is None or self.target is None or read is None or own is None:
            return None
        return self.source, self.target, read, own

    def _context_not_checked(self) -> Check:
        texts = zip((self.spec.source, self.spec.target), self.lengths, strict=True)
        lacking = self.absent or [f"the tokenizer of {name}" for name, lengths in texts if lengths is None]
        return Check(name="context", status="skip", detail=_not_checked(lacking))

    def context(self) -> Check:
        """Compare the longest texts with both models' contexts."""
        if (known := self.known()) is None:
            return self._context_not_checked()
        source, target, read, own = known
        spec, new = self.spec, self.spec.max_new_tokens
        soft = spec.inserted if spec.layout == "soft_plus_text" else 0
        with_soft = f"with {soft} soft tokens and " if soft else "with "
        # The source's answer in the target's tokens: as many more as the target takes for the data's own answers.
        written = math.ceil(new * max(1.0, own.answer / max(1, read.answer)))
        shown = own.header + own.prompt + own.written
        texts = [
            (source, read.header + read.asked + new, f"the longest prompt with {new} new tokens"),
            (source, read.header + read.prompt, "the longest prompt"),
            (target, soft + own.header + own.asked + new, f"the longest prompt {with_soft}{new} new tokens"),
            (target, soft + own.header + own.answered, f"the longest prompt {with_soft}its answer"),
            (
                target,
                shown + new,
                f"text_bridge (the longest prompt with none of the source's answer and {new} new tokens)",
            ),
        ]
        if steps := spec.latent_steps:
            texts.append((source, read.header + read.prompt + steps, f"the longest prompt with {steps} latent steps"))
        certain = len(texts) if own.measured and read.measured else 0
        # A job cuts the source's answer where it would be too long; most are far shorter than what may be written.
        whole = f"text_bridge (the longest prompt with the source's answer and {new} new tokens)"
        texts.append((target, shown + written + new, whole))
        problems = [too_long(shape.name, shape.context, needed, text) for shape, needed, text in texts]
        number, problem = next(((i, text) for i, text in enumerate(problems) if text), (0, None))
        if problem is None:
            longest = max(needed for _, needed, _ in texts)
            limits = " and ".join(
                "any" if shape.context is None else f"{shape.context:,}" for shape in (source, target)
            )
            detail = f"{longest:,} positions at most, of {limits} ({own.source})"
            return Check(name="context", status="pass", detail=detail)
        status: Status = "fail" if number < certain else "warn"
        return Check(name="context", status=status, detail=f"{problem} ({own.source})", remedy=REMEDY)

    def estimate(self, run: RunSpec, capacity: float | None) -> MemoryEstimate | None:
        """Return the memory of a worker, with assumed texts where they are not known; None if sizes are not."""
        if self.source is None or self.target is None:
            return None
        read, own = (lengths or assume(self.spec) for lengths in self.lengths)
        return estimate_memory(self.spec, run, self.source, self.target, (read, own), capacity=capacity)

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
            pairs = ((self.spec.source, self.source), (self.spec.target, self.target))
            detail = _not_checked(name for name, shape in pairs if shape is None)
            return Check(name="memory", status="skip", detail=detail, node=node)
        device = "GPU" if run.use_gpu else "worker's share of the memory"
        detail = f"{estimate.line()} of {capacity / 1e9:.0f} GB on each {device}{note}{self._assumed()}"
        if estimate.total <= USABLE * capacity:
            return Check(name="memory", status="pass", detail=detail, node=node)
        certain = estimate.total
        if None in self.lengths:  # what is assumed refuses nothing: neither texts nor a device that was not seen
            certain = 0 if note else estimate.textless
        status: Status = "fail" if CLEARLY * certain > capacity else "warn"
        remedy = self._remedy(estimate, run, capacity)
        return Check(name="memory", status=status, detail=detail, remedy=remedy, node=node)

    def _assumed(self) -> str:
        """Return what the estimate rests on besides files of this machine."""
        if None not in self.lengths:
            return ""
        return "; sizes as published, texts assumed" if self.absent else "; texts assumed"

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
    """What the trials of a phase need; those of which the same is said are named once, by the first of them.

    Attributes:
        trials: the jobs by the name of their trial.
        run: how they are carried out.
    """

    trials: Mapping[str, JobSpec]
    run: RunSpec

    @cached_property
    def each(self) -> Mapping[str, Requirement]:
        """What each trial needs. Data and configurations are read once, however many variants there are."""
        lengths, shapes = SharedResults(text_lengths), SharedResults(_shapes)
        needs = {}
        for name, spec in self.trials.items():
            source, target, absent = shapes(spec)
            texts = (None, None) if absent else lengths(spec)
            needs[name] = Requirement(spec=spec, source=source, target=target, lengths=texts, absent=absent)
        return needs

    def context(self) -> list[Check]:
        """Return the checks of the context that differ."""
        return _differing({name: need.context() for name, need in self.each.items()})

    def memory(self, capacity: float, node: str = "", note: str = "") -> list[Check]:
        """Return the checks of the memory that differ; see `Requirement.memory`."""
        return _differing({name: need.memory(self.run, capacity, node, note) for name, need in self.each.items()})


def _shapes(spec: JobSpec) -> tuple[ModelShape | None, ModelShape | None, tuple[str, ...]]:
    """Return the sizes of source and target as far as they are known, and which of them this machine does not have."""
    source = read_shape(spec.source, spec.source_revision)
    target = read_shape(spec.target, spec.target_revision)
    pairs = ((spec.source, source), (spec.target, target))
    absent = tuple(dict.fromkeys(name for name, shape in pairs if shape is None))
    return source or known_shape(spec.source), target or known_shape(spec.target), absent


def _not_checked(lacking: Iterable[str]) -> str:
    return f"not checked, since this machine does not have {' and '.join(dict.fromkeys(lacking))}"


def _differing(checks: Mapping[str, Check]) -> list[Check]:
    """Return one check of those that say the same, with the name of the first trial of which it is said."""
    first: dict[Check, str] = {}
    for name, check in checks.items():
        first.setdefault(check, name)
    return [replace(check, detail=f"{name}: {check.detail}") for check, name in first.items()]
