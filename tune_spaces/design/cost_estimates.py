"""What a plan costs and what it can show: the time of a trial, and the smallest difference that its items resolve."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge_common.trial_folder import TrialFolder
from ray_bridge import JobSpec, RunSpec

GSM8K_TEST = 1319
SYNTHETIC_TEST = 1000
DISCORDANCE = 0.12  # share of items on which two variants differ: 24 of 200 in the reference's runs
Z_LEVEL, Z_POWER = 1.959964, 0.841621  # two-sided 95 %, power 80 %

Configuration = tuple[Any, ...]
"""Source, target, task and bridge: what the speed of a trial depends on, besides its numbers of steps and examples."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Assumed times of a trial on all of its workers.

    Attributes:
        startup: seconds until the first training step.
        step: seconds per optimiser step.
        example: seconds per evaluated example and condition.
    """

    startup: float
    step: float
    example: float


# Rough: four H200 on the paper's configuration, and two CPU cores on the embedded pair.
GPU = Rates(startup=35.0, step=0.9, example=0.25)
CPU = Rates(startup=20.0, step=0.35, example=0.03)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a trial costs.

    Attributes:
        minutes: wall-clock time.
        gpu_hours: that time on all GPUs; 0 on CPUs.
        basis: `rough`, or the trial on whose time the estimate rests.
    """

    minutes: float
    gpu_hours: float
    basis: str


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """Estimates the time of trials, scaled to finished ones of the same configuration.

    Attributes:
        rates: assumed rates.
        factors: by configuration, measured over assumed seconds, and the trial in which that was measured.
    """

    rates: Rates
    factors: Mapping[Configuration, tuple[float, str]]

    @classmethod
    def from_finished(cls, run: RunSpec, trials: Iterable[TrialFolder]) -> "CostModel":
        """Fit the model to finished trials that ran on the same type and number of workers."""
        rates = GPU if run.use_gpu else CPU
        factors: dict[Configuration, tuple[float, str]] = {}
        for trial in trials:
            record = trial.spec()
            if record is None:
                continue
            seconds, trial_run = (trial.result() or {}).get("seconds"), record.get("run", {})
            if not seconds or trial_run.get("workers") != run.workers or trial_run.get("use_gpu") != run.use_gpu:
                continue
            factor = seconds / _assumed_seconds(record["spec"], rates)
            factors[_configuration(record["spec"])] = (factor, f"measured: {trial.name}")
        return cls(rates=rates, factors=factors)

    def estimate(self, spec: JobSpec, run: RunSpec) -> Cost:
        """Estimate the cost of one trial."""
        fields = spec.flat()
        factor, basis = self.factors.get(_configuration(fields), (1.0, "rough"))
        seconds = _assumed_seconds(fields, self.rates) * factor
        return Cost(minutes=seconds / 60, gpu_hours=seconds / 3600 * (run.workers if run.use_gpu else 0), basis=basis)


def _configuration(spec: Mapping[str, Any]) -> Configuration:
    return spec["source"], spec["target"], spec["task"], spec["bridge"]


def _assumed_seconds(spec: Mapping[str, Any], rates: Rates) -> float:
    validations = spec["steps"] // spec["eval_every"]
    tested = test_items(spec["task"], spec["test_examples"]) or SYNTHETIC_TEST
    evaluated = validations * spec["validation_examples"] + 3 * tested
    return rates.startup + spec["steps"] * rates.step + rates.example * evaluated


def test_items(task: str, test_examples: int | None) -> int | None:
    """Return the number of items that the gate decides on, or None if only the data tell.

    Args:
        task: name of the task.
        test_examples: limit set in the spec, if any.
    """
    available = {"gsm8k": GSM8K_TEST, "synthetic": SYNTHETIC_TEST}.get(task)
    if test_examples is None:
        return available
    return min(test_examples, available) if available and task != "synthetic" else test_examples


def gate_resolution(n: int, boundary: float) -> float:
    """Return how far a true accuracy must lie from a boundary for its interval to clear it in 80 % of draws.

    Normal approximation: (z_0.975 + z_0.8) * sqrt(p (1 - p) / n).

    Args:
        n: number of test items.
        boundary: accuracy at the boundary of the gate, p.
    """
    return float((Z_LEVEL + Z_POWER) * (boundary * (1 - boundary) / n) ** 0.5)


def comparison_resolution(n: int, discordance: float = DISCORDANCE) -> float | None:
    """Return the smallest paired difference that n items show with 80 % power in the exact McNemar test.

    Args:
        n: number of test items.
        discordance: share of items that exactly one of the two variants solves.
    """
    from tune_spaces.analysis.paired_tests import minimum_detectable_effect

    return minimum_detectable_effect(n, discordance)
