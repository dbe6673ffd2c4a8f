"""How long a job takes: its work (`work.py`) at measured rates, which ship as data (`rates.json`)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any

from bridge_common.metric_names import CONDITIONS
from ray_bridge.config.fields_read import SharedResults
from ray_bridge.config.run_spec import RunSpec
from ray_bridge.config.spec import JobSpec
from ray_bridge.footprint.known_models import find_shape
from ray_bridge.footprint.means import Texts, text_means
from ray_bridge.footprint.model_shape import ModelShape
from ray_bridge.footprint.work import JobWork, Work

DEFAULT_CARD = "NVIDIA H100"
CPU = "cpu"
IRRELEVANT = ("seed", "noise_seed", "learning_rate", "warmup_steps", "weight_decay", "clip_norm")
"""Fields that change no time."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What one worker's device does, and what each thing costs besides its FLOPs and bytes.

    Attributes:
        card: name of the device.
        train_flops: FLOP/s of passes with gradient.
        read_flops: FLOP/s of passes over prompts, and of decoding where it is not bound by memory.
        decode_bytes: bytes a second that decoding reads.
        sum_bytes: bytes a second at which gradients are summed over workers.
        load_bytes: bytes a second at which weights are loaded.
        float64: how much slower passes in float64 are.
        start: seconds from a trial's call to its first work, models excluded.
        first_use: seconds of a job's first passes besides their FLOPs: kernels are compiled and planned.
        memory: bytes of the device; 0 if passes never run layers again for want of it.
        step: seconds of a training step besides its FLOPs.
        parts_step: the same for a target in parts.
        parts_share: share of `train_flops` that a target in parts reaches: its layers' products are smaller, and sums
            over its processes stand between them.
        unfused_step: the same for a target whose layers are not fused.
        decode_step: seconds of a decoding step besides its bytes.
        call: seconds of a decoded batch besides its steps: its graph's capture.
        micro_batch: seconds of an eager pass with gradient besides its FLOPs.
        question: seconds of the host for a decoded question: encoding, scoring.
        example: seconds of the host for an example whose states are stored.
        store_bytes: bytes a second at which those states are stored.
        checkpoint: seconds for which training waits for a checkpoint.
    """

    card: str
    train_flops: float
    read_flops: float
    decode_bytes: float
    sum_bytes: float
    load_bytes: float
    float64: float
    start: float
    first_use: float
    memory: float
    step: float
    parts_step: float
    parts_share: float
    unfused_step: float
    decode_step: float
    call: float
    micro_batch: float
    question: float
    example: float
    store_bytes: float
    checkpoint: float

    def of_steps(self, shards: int, *, fused: bool) -> "Rates":
        """Return the rates of training steps with a target in so many parts, with fused layers or without."""
        if shards > 1:
            return replace(self, step=self.parts_step, train_flops=self.parts_share * self.train_flops)
        return self if fused else replace(self, step=self.unfused_step)

    def seconds(self, work: Work) -> float:
        """Return how long a worker takes for its work."""
        decoding = max(work.decode_bytes / self.decode_bytes, work.decode_flops / self.read_flops)
        return (
            work.train_flops / self.train_flops
            + work.read_flops / self.read_flops
            + decoding
            + work.decode_steps * self.decode_step
            + work.calls * self.call
            + work.micro_batches * self.micro_batch
            + work.steps * self.step
            + work.questions * self.question
            + work.examples * self.example
            + work.stored_bytes / self.store_bytes
            + work.summed_bytes / self.sum_bytes
        )


@dataclass(frozen=True, kw_only=True)
class JobTime:
    """How long a job takes.

    Attributes:
        parts: seconds by part: start, preparation, steps, decode-aware steps, validation, test, checkpoints.
        card: the device whose rates were taken.
        items: test questions.
        items_known: whether their number is known, and not assumed.
        notes: what was assumed of models, texts and device.
    """

    parts: Mapping[str, float]
    card: str
    items: int
    items_known: bool
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Seconds of the whole job."""
        return sum(self.parts.values())

    def line(self) -> str:
        """Return the parts in one line, in minutes, without those below a hundredth of the whole."""
        shown = [f"{name} {value / 60:.1f}" for name, value in self.parts.items() if value > self.seconds / 100]
        return f"{self.seconds / 60:.1f} min ({', '.join(shown)})"


class TimeEstimator:
    """Estimates jobs; sizes of models and lengths of texts are read once for all jobs that share them.

    Args:
        card: name of the GPU, as torch gives it; None takes `DEFAULT_CARD`. Without GPUs it has no meaning.
    """

    def __init__(self, card: str | None = None) -> None:
        self.card = card
        self._shapes: dict[tuple[str, str | None], tuple[ModelShape, str | None]] = {}
        self._texts = SharedResults(text_means)
        self._times: dict[str, JobTime] = {}

    def estimate(self, spec: JobSpec, run: RunSpec) -> JobTime:
        """Estimate how long a job takes."""
        values = spec.flat()
        key = repr([*((name, value) for name, value in values.items() if name not in IRRELEVANT), run])
        if key not in self._times:
            texts = self._texts(spec)
            source, of_source = self._shape(spec.source, spec.source_revision)
            target, of_target = self._shape(spec.target, spec.target_revision)
            rates, of_card = rates_of((self.card or DEFAULT_CARD) if run.use_gpu else CPU)
            notes = tuple(dict.fromkeys(note for note in (texts.note, of_source, of_target, of_card) if note))
            time = estimate_time(spec, run, texts=texts, shapes=(source, target), rates=rates)
            self._times[key] = replace(time, notes=notes)
        return self._times[key]

    def _shape(self, name: str, revision: str | None) -> tuple[ModelShape, str | None]:
        if (name, revision) not in self._shapes:
            self._shapes[name, revision] = find_shape(name, revision)
        return self._shapes[name, revision]


def estimate_time(
    spec: JobSpec,
    run: RunSpec,
    *,
    texts: Texts,
    shapes: tuple[ModelShape, ModelShape],
    rates: Rates,
    conditions: Sequence[str] = CONDITIONS,
) -> JobTime:
    """Estimate how long a job takes, from all that the estimate depends on; `TimeEstimator` finds it.

    Args:
        spec: the job.
        run: its workers.
        texts: lengths and numbers of its texts.
        shapes: sizes of source and target.
        rates: of the device.
        conditions: of the final evaluation.
    """
    work = JobWork(spec, run, *shapes, texts, rates.memory or None)
    weights = (work.source.parameters + work.target.parameters) * work.size  # bytes
    validations = 1 + spec.steps // spec.eval_every + (1 if spec.steps % spec.eval_every else 0)
    aware = spec.steps // spec.eval_every if spec.decode_aware else 0
    fused = shapes[1].fused and not spec.writes_cache  # caches of rows go through transformers' own layers
    of_steps = rates.of_steps(spec.target_shards, fused=fused) if run.use_gpu else rates
    slower = rates.float64 if spec.eval_dtype == "float64" else 1.0
    validation = rates.seconds(work.evaluation("bridged", spec.validation_examples))
    # Trials on a node answer `text_budgets` once: each is charged with one of them.
    texts_once = ("target_alone", *("source_alone", "target_alone"), *("source_alone", "text_bridge"))
    measured = (*conditions, *(texts_once if spec.text_budgets else ()))
    test = sum(rates.seconds(work.evaluation(condition, texts.test)) for condition in measured)
    return JobTime(
        parts={
            "start": rates.start + weights / rates.load_bytes,
            "preparation": rates.first_use + rates.seconds(work.prepare()),
            "steps": spec.steps * of_steps.seconds(work.step()),
            "decode-aware steps": aware * rates.seconds(work.decode_aware()) if aware else 0.0,
            "validation": validations * validation * slower,
            "test": test * slower,
            "checkpoints": rates.checkpoint * (1 + spec.steps // run.checkpoint_every),
        },
        card=rates.card,
        items=texts.test,
        items_known=texts.items_known,
        notes=(texts.note,),
    )


def rates_of(card: str) -> tuple[Rates, str | None]:
    """Return the rates of a device, and what a user should know of them; None if it was measured.

    Args:
        card: a GPU's name as torch gives it, or `cpu`.
    """
    data = rate_table()
    if card == CPU:
        return Rates(card=CPU, **values_of(data["cpu"])), None
    known = data["cards"]
    # The longest name that is a part of the card's: "NVIDIA H100 80GB HBM3" is an "NVIDIA H100".
    name = max((name for name in known if name in card), key=len, default=None)
    ceilings = known[name or DEFAULT_CARD]
    note = None if name else f"no rates of {card} are known: those of {DEFAULT_CARD} are taken"
    if name and not ceilings["measured"]:
        note = f"rates of {name} follow from its data sheet"
    return rates_from(card if name else DEFAULT_CARD, ceilings, values_of(data["gpu"])), note


def rates_from(card: str, ceilings: Mapping[str, Any], values: Mapping[str, float]) -> Rates:
    """Return rates from what a card can do and the shares of it that are reached.

    Args:
        card: its name.
        ceilings: FLOP/s of a matrix product, `matmul`, bytes a second of a copy, `copy`, and bytes of `memory`.
        values: shares (`train_share`, `read_share`, `decode_share`), and the other fields of `Rates`.
    """
    shares = {"train_flops": "train_share", "read_flops": "read_share", "decode_bytes": "decode_share"}
    reached = {
        name: values[share] * ceilings["copy" if name == "decode_bytes" else "matmul"] for name, share in shares.items()
    }
    rest = {field.name: values[field.name] for field in fields(Rates) if field.name in values}
    return Rates(card=card, memory=ceilings["memory"], **reached, **rest)


def values_of(entries: Mapping[str, Any]) -> dict[str, float]:
    """Return the values of `rates.json`'s entries, each of which has a value and its source."""
    return {name: float(entry["value"]) for name, entry in entries.items()}


@cache
def rate_table() -> dict[str, Any]:
    """Return the content of `rates.json`."""
    content: dict[str, Any] = json.loads(
        files("ray_bridge.footprint").joinpath("rates.json").read_text(encoding="utf-8")
    )
    return content
