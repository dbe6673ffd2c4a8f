"""How long a trial takes and what a comparison at its number of items can show: the price and the worth of a plan."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bridge_common.trial_folder import TrialFolder
from ray_bridge import JobSpec, RunSpec

GSM8K_TEST = 1319
SYNTHETIC_TEST = 1000
DISCORDANCE = 0.12  # share of items on which two variants differ: 24 of 200 in the reference's runs
Z_LEVEL, Z_POWER = 1.959964, 0.841621  # two-sided 95 %, power 80 %


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Seconds of start-up, of an optimiser step, and of an evaluated example over all workers."""

    startup: float
    step: float
    example: float


# Rough: four H200 on the paper's configuration, and two CPU cores on the embedded pair.
GPU = Rates(startup=35.0, step=0.9, example=0.25)
CPU = Rates(startup=20.0, step=0.35, example=0.03)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Minutes of a trial, its GPU-hours, and what the estimate rests on."""

    minutes: float
    gpu_hours: float
    basis: str


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Estimates of time, calibrated on finished trials where there are any.

    Attributes:
        rates: assumed rates.
        factors: measured over assumed seconds, by models, bridge and task.
    """

    rates: Rates
    factors: dict[tuple[Any, ...], tuple[float, str]]

    @classmethod
    def from_finished(cls, run: RunSpec, trials: Iterable[TrialFolder]) -> "Clock":
        """A clock that has seen the finished trials that ran on the same kind and number of workers."""
        rates = GPU if run.use_gpu else CPU
        factors: dict[tuple[Any, ...], tuple[float, str]] = {}
        for trial in trials:
            given = trial.spec()
            if given is None:
                continue
            seconds, ran = (trial.result() or {}).get("seconds"), given.get("run", {})
            if not seconds or ran.get("workers") != run.workers or ran.get("use_gpu") != run.use_gpu:
                continue
            assumed = _seconds(given["spec"], rates)
            factors[_kind(given["spec"])] = (seconds / assumed, f"measured: {trial.name}")
        return cls(rates=rates, factors=factors)

    def estimate(self, spec: JobSpec, run: RunSpec) -> Cost:
        """The cost of one trial."""
        fields = spec.flat()
        factor, basis = self.factors.get(_kind(fields), (1.0, "rough"))
        seconds = _seconds(fields, self.rates) * factor
        return Cost(minutes=seconds / 60, gpu_hours=seconds / 3600 * (run.workers if run.use_gpu else 0), basis=basis)


def _kind(spec: dict[str, Any]) -> tuple[Any, ...]:
    return spec["source"], spec["target"], spec["task"], spec["bridge"]


def _seconds(spec: dict[str, Any], rates: Rates) -> float:
    validations = spec["steps"] // spec["eval_every"]
    tested = test_items(spec["task"], spec["test_examples"]) or SYNTHETIC_TEST
    return (
        rates.startup
        + spec["steps"] * rates.step
        + rates.example * (validations * spec["validation_examples"] + 3 * tested)
    )


def test_items(task: str, test_examples: int | None) -> int | None:
    """Items that the gate decides on, where that is known without reading the data."""
    whole = {"gsm8k": GSM8K_TEST, "synthetic": SYNTHETIC_TEST}.get(task)
    if test_examples is None:
        return whole
    return min(test_examples, whole) if whole and task != "synthetic" else test_examples


def gate_resolution(n: int, boundary: float) -> float:
    """How far a true accuracy must lie from a boundary for the interval to clear it in 80 % of draws.

    Normal approximation: (z_0.975 + z_0.8) * sqrt(p (1 - p) / n).
    """
    return float((Z_LEVEL + Z_POWER) * (boundary * (1 - boundary) / n) ** 0.5)


def comparison_resolution(n: int, discordance: float = DISCORDANCE) -> float | None:
    """Smallest paired difference that n items show with 80 % power in the exact McNemar test."""
    from tune_spaces.analysis.paired_tests import minimum_detectable_effect

    return minimum_detectable_effect(n, discordance)
