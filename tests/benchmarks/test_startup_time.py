"""The benchmark of a job's start asks for no longer texts than its models read."""

from benchmarks.startup_time import start_spec
from cluster.preflight.requirements import Requirements
from ray_bridge.config.presets import tiny_run


def test_its_texts_fit_into_both_models() -> None:
    spec = start_spec("tiny", {side: f"embedded:{side}" for side in ("source", "target")}, 2)
    (check,) = Requirements(trials={"start": spec}, run=tiny_run(workers=2)).context()
    assert check.status == "pass", check.detail
