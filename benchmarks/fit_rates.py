"""Fit the rates of `ray_bridge/footprint/rates.json` to recorded jobs, and show how far the estimate is off on each.

    python -m benchmarks.fit_rates            every job estimated with rates fitted to the others, then the rates of all

The jobs are in `benchmarks/results/measured-jobs.json`. Shares of a card's ceilings and times of the host are fitted by
least squares on logarithms, so that a tenth too much weighs as a tenth too little.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.harness import RESULTS
from bridge_common.metric_names import CONDITIONS
from ray_bridge.config.presets import paper, paper_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.footprint.job_time import JobTime, Rates, estimate_time, rate_table, rates_from, values_of
from ray_bridge.footprint.known_models import find_shape
from ray_bridge.footprint.means import TextMeans, Texts
from ray_bridge.footprint.model_shape import ModelShape
from ray_bridge.footprint.work import JobWork

FITTED = {
    "train_share": 0.6,
    "read_share": 0.7,
    "decode_share": 0.85,
    "step": 0.02,
    "parts_step": 0.05,
    "parts_share": 0.7,
    "decode_step": 0.0015,
    "call": 0.5,
    "micro_batch": 0.1,
    "question": 0.004,
    "first_use": 5.0,
    "store_bytes": 1e9,
}
"""Rates that are fitted, with a round guess of each that no recorded job has part in."""
LENGTHS = {
    "paper": TextMeans(header=1330, prompt=120, question=120, answer=150),
    "gsm8k": TextMeans(header=1313, prompt=75, question=62, answer=125),
}
PRIOR = 0.4  # weight of the guess against one recorded figure: rates that few jobs tell apart stay near it


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A recorded job.

    Attributes:
        name: what it was.
        measured: seconds by part.
        job: how it is described in the file.
    """

    name: str
    measured: Mapping[str, float]
    job: Mapping[str, Any]

    def predicted(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the estimate of each part that was measured.

        Args:
            values: the rates, as `rates_from` takes them.
        """
        time = self.estimate(values)
        spec, parts = self._spec(), time.parts
        validations = 1 + spec.steps // spec.eval_every
        found = {
            "step": parts["steps"] / max(1, spec.steps),
            "validation_each": parts["validation"] / validations,
            "test": parts["test"],
            "preparation": parts["preparation"],
            "decode_aware": parts["decode-aware steps"] / max(1, spec.steps // spec.eval_every),
        }
        decoding = self.decode_step(values)
        found |= {} if decoding is None else {"decode_step": decoding}
        first = 1 if self.job.get("first_validation", True) else 0
        found["total"] = (
            parts["preparation"] + parts["steps"] + parts["decode-aware steps"] + parts["test"]
            + found["validation_each"] * (validations - 1 + first)
        )  # fmt: skip
        return {name: found[name] for name in self.measured}

    def decode_step(self, values: Mapping[str, float]) -> float | None:
        """Return the estimate of one decoding step of a validation; None if the job has no such figure."""
        if "decode_step" not in self.measured:
            return None
        spec, rates = self._spec(), self._rates(values)
        work = JobWork(spec, paper_run(**self.job["run"]), *self._shapes(), self._texts())
        decoding = work.evaluation("bridged", spec.validation_examples)
        moved = max(decoding.decode_bytes / rates.decode_bytes, decoding.decode_flops / rates.read_flops)
        return moved / decoding.decode_steps + rates.decode_step

    def estimate(self, values: Mapping[str, float]) -> JobTime:
        """Return the estimate of the whole job."""
        return estimate_time(
            self._spec(),
            paper_run(**self.job["run"]),
            texts=self._texts(),
            shapes=self._shapes(),
            rates=self._rates(values),
            conditions=self.job.get("conditions", CONDITIONS),
        )

    def _texts(self) -> Texts:
        job, own = self.job, LENGTHS[self.job["texts"]]
        tested = self._spec().test_examples or 1
        return Texts(source=own, target=own, train=job["train"], test=tested, note="", written=job["written"])

    def _spec(self) -> JobSpec:
        return paper(**self.job["spec"])

    def _shapes(self) -> tuple[ModelShape, ModelShape]:
        if "shape" in self.job:
            shape = ModelShape(name=self.name, **self.job["shape"])
            return shape, shape
        spec = self._spec()
        target = self.job.get("target_shape")
        target = find_shape(spec.target)[0] if target is None else ModelShape(name=self.name, **target)
        return find_shape(spec.source)[0], target

    def _rates(self, values: Mapping[str, float]) -> Rates:
        cards = rate_table()["cards"]
        name = max((name for name in cards if name in self.job["card"]), key=len)
        return rates_from(self.job["card"], cards[name], values)


def recorded() -> list[Recorded]:
    """Return the recorded jobs."""
    content = json.loads((RESULTS / "measured-jobs.json").read_text(encoding="utf-8"))
    return [Recorded(name=job["name"], measured=job["measured"], job=job) for job in content["jobs"]]


def fit(jobs: Sequence[Recorded]) -> dict[str, float]:
    """Return the rates that fit the recorded jobs best."""
    from scipy.optimize import least_squares

    given = {name: value for name, value in values_of(rate_table()["gpu"]).items() if name not in FITTED}
    start = np.log(list(FITTED.values()))

    def errors(logs: Any) -> Any:
        values = {**given, **dict(zip(FITTED, np.exp(logs), strict=True))}
        found = []
        for job in jobs:
            predicted = job.predicted(values)
            found += [np.log(predicted[name] / seconds) for name, seconds in job.measured.items()]
        return np.concatenate([found, PRIOR * (logs - start)])

    best = least_squares(errors, start).x
    return {**given, **{name: float(value) for name, value in zip(FITTED, np.exp(best), strict=True)}}


def left_out(jobs: Sequence[Recorded]) -> dict[str, dict[str, float]]:
    """Return by job how far the estimate of each part is off, as a share, with rates fitted to the other jobs.

    A job that ran the same configuration is left out together with it.
    """
    errors = {}
    for job in jobs:
        alike = job.job.get("alike", job.name)
        predicted = job.predicted(fit([other for other in jobs if other.job.get("alike", other.name) != alike]))
        errors[job.name] = {name: predicted[name] / seconds - 1 for name, seconds in job.measured.items()}
    return errors


def main() -> None:
    """Print the errors of each job estimated from the others, and the rates that fit all of them."""
    jobs = recorded()
    for name, parts in left_out(jobs).items():
        print(name, {part: f"{error:+.0%}" for part, error in parts.items()})
    best = fit(jobs)
    for name in FITTED:
        print(f"{name}: {best[name]:.4g}")


if __name__ == "__main__":
    main()
