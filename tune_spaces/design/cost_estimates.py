"""What a plan costs and what it can show: the time of a trial, and the smallest difference that its items resolve.

The time comes from a model of the work (`ray_bridge.TimeEstimator`) at measured rates, corrected by the trials that
have finished in the storage.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any

from bridge_common.errors import UserError
from bridge_common.trial_folder import TrialFolder
from ray_bridge import JobSpec, JobTime, RunSpec, TimeEstimator, build
from tune_spaces.design.phases import Phase

DISCORDANCE = 0.12  # share of items on which two variants differ: 24 of 200 in the reference's runs
Z_LEVEL, Z_POWER = 1.959964, 0.841621  # two-sided 95 %, power 80 %

Configuration = tuple[Any, ...]
"""Source, target and its parts, task and bridge: finished trials that agree in them correct one another first."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a trial costs.

    Attributes:
        minutes: wall-clock time.
        gpu_hours: that time on all GPUs; 0 on CPUs.
        basis: `model`, or how many finished trials it was corrected by.
        time: the model's own estimate, by part.
    """

    minutes: float
    gpu_hours: float
    basis: str
    time: JobTime


@dataclass(frozen=True, kw_only=True)
class FinishedTrial:
    """How long a finished trial took, against its estimate.

    Attributes:
        name: its folder's.
        configuration: see `Configuration`.
        ratio: seconds that it took, over the model's.
    """

    name: str
    configuration: Configuration
    ratio: float


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """Estimates the time of trials, corrected by finished ones on the same kind of device.

    Attributes:
        estimator: the model of the work.
        finished: the finished trials.
    """

    estimator: TimeEstimator = field(default_factory=TimeEstimator)
    finished: Sequence[FinishedTrial] = ()

    @classmethod
    def from_finished(cls, run: RunSpec, trials: Iterable[TrialFolder]) -> "CostModel":
        """Return the model with the finished trials that ran on GPUs, or on CPUs, as `run` would.

        The card is the one that most of them ran on; times of other cards correct nothing. A trial whose plug-in is not
        here, or whose record is damaged, is left out.
        """
        records = []
        for trial in trials:
            try:
                record, result = trial.spec(), trial.result()
            except UserError:
                continue
            if record is None or not result or result.get("reused_from") or "run" not in record:
                continue
            if record["run"].get("use_gpu") == run.use_gpu and result.get("seconds"):
                records.append((trial, record, result))
        cards = Counter(result["gpu"] for _, _, result in records if result.get("gpu"))
        estimator = TimeEstimator(cards.most_common(1)[0][0] if cards else None)
        finished = []
        for trial, record, result in records:
            if result.get("gpu") not in (None, estimator.card):
                continue
            try:
                time = estimator.estimate(build(JobSpec, record["spec"]), build(RunSpec, record["run"]))
            except UserError:
                continue
            ratio = _ratio(result, time)
            if ratio is not None:
                finished.append(
                    FinishedTrial(name=trial.name, configuration=_configuration(record["spec"]), ratio=ratio)
                )
        return cls(estimator=estimator, finished=finished)

    def estimate(self, spec: JobSpec, run: RunSpec) -> Cost:
        """Estimate the cost of one trial."""
        time = self.estimator.estimate(spec, run)
        factor, basis = self._correction(_configuration(spec.flat()))
        seconds = time.seconds * factor
        return Cost(
            minutes=seconds / 60,
            gpu_hours=seconds / 3600 * (run.workers if run.use_gpu else 0),
            basis=basis,
            time=time,
        )

    def errors(self) -> list[float]:
        """Return how far the estimate of each finished trial is off, as a share, corrected by the others alone."""
        return [self._correction(one.configuration, without=one)[0] / one.ratio - 1 for one in self.finished]

    def record(self) -> dict[str, Any]:
        """Return what `plan.json` says of the estimate: the finished trials, and its error on them."""
        errors = [abs(error) for error in self.errors()]
        return {
            "card": self.estimator.card,
            "finished": len(errors),
            "median_error": median(errors) if errors else None,
            "largest_error": max(errors) if errors else None,
        }

    @cached_property
    def _logs(self) -> dict[Configuration | None, tuple[float, int]]:
        """Sums of the logarithms of ratios and their numbers, by configuration and, under None, of all."""
        sums: dict[Configuration | None, tuple[float, int]] = {}
        for one in self.finished:
            for key in (one.configuration, None):
                total, count = sums.get(key, (0.0, 0))
                sums[key] = total + math.log(one.ratio), count + 1
        return sums

    def _correction(self, own: Configuration, without: FinishedTrial | None = None) -> tuple[float, str]:
        """Return by what the model's time is multiplied: the geometric mean of alike trials' ratios, else of all.

        Args:
            own: configuration of the trial that is estimated.
            without: a finished trial of that configuration that does not count.
        """
        for key, words in ((own, "like it"), (None, "others")):
            total, count = self._logs.get(key, (0.0, 0))
            if without is not None:
                total, count = total - math.log(without.ratio), count - 1
            if count > 0:
                return math.exp(total / count), f"model, corrected by {count} {words}"
        return 1.0, "model"


def _configuration(spec: Mapping[str, Any]) -> Configuration:
    return spec["source"], spec["target"], spec.get("target_shards", 1), spec["task"], spec["bridge"]


def _ratio(result: Mapping[str, Any], time: JobTime) -> float | None:
    """Return measured over estimated seconds, of the parts that a result tells; None for a resumed trial.

    Older results have the training alone, with its validations.
    """
    seconds, own = float(result["seconds"]), time.seconds
    if result.get("training_seconds", 0.0) > seconds:
        return None  # an earlier attempt's steps are not in it
    for name, part in (("start_seconds", "start"), ("evaluation_seconds", "test")):
        if name in result:
            seconds += result[name]
        else:
            own -= time.parts[part]
    return seconds / own if own > 0 else None


def gate_resolution(n: int, boundary: float) -> float:
    """Return how far a true accuracy must lie from a boundary for its interval to clear it in 80 % of draws.

    Normal approximation: (z_0.975 + z_0.8) * sqrt(p (1 - p) / n).

    Args:
        n: number of test items.
        boundary: accuracy at the boundary of the gate, p.
    """
    return float((Z_LEVEL + Z_POWER) * (boundary * (1 - boundary) / n) ** 0.5)


def comparison_resolution(n: int, discordance: float = DISCORDANCE, comparisons: int = 1) -> float | None:
    """Return the smallest paired difference that n items show with 80 % power in the exact McNemar test.

    It is that of single runs, at the first step of the correction for all comparisons of a family: if others show
    something, too, the power is larger.

    Args:
        n: number of test items.
        discordance: share of items that exactly one of the two variants solves.
        comparisons: number of comparisons in the family.
    """
    from tune_spaces.analysis.noise_floor import LEVEL
    from tune_spaces.analysis.paired_tests import minimum_detectable_effect

    return minimum_detectable_effect(n, discordance, alpha=LEVEL / comparisons)


def family_size(phase: Phase) -> int:
    """Return how many comparisons are corrected together: the phase's questions, or else all pairs of its variants.

    Many variants are a sweep, each compared with the reference alone.
    """
    from tune_spaces.analysis.families import MOST_PAIRED

    if phase.asks:
        return len(phase.asks)
    count = len({variant.name for variant in (*phase.first, *phase.followers())})
    count += phase.search.trials if phase.search else 0
    return max(1, count * (count - 1) // 2 if count <= MOST_PAIRED else count - 1)
