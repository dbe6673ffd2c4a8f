"""Ray Tune's scheduler that ends trials of a sweep whose validation accuracy falls behind, without any test item."""

from collections.abc import Sequence
from typing import Any

from bridge_common.errors import UserError
from ray_bridge import JobSpec, RunSpec
from tune_spaces.records.campaign_folder import CampaignFolder

STEP, VALIDATION = "step", "validation_accuracy"
"""What a job reports with each of its checkpoints: the step, and the best validation accuracy so far."""
ASHA = "asha"
REDUCTION = 3  # one trial in so many goes on at each rung


def check_stop_early(name: str | None, run: RunSpec | None = None) -> None:
    """Refuse an unknown scheduler, and any where workers stay from trial to trial.

    Raises:
        UserError: if it is neither None nor `asha`, or the run is resident.
    """
    if name not in (None, ASHA):
        raise UserError(f"--stop-early {name}: use {ASHA}, or leave it out")
    if name is not None and run is not None and run.resident:
        raise UserError("--stop-early ends trials with their workers, which resident=true keeps: leave one of them out")


def scheduler(name: str | None, specs: Sequence[JobSpec], campaign: CampaignFolder) -> Any:
    """Return Tune's scheduler, or None for its default, which lets every trial end.

    Asynchronous successive halving (Li et al. 2020): at each rung, from the first evaluation on and at three times as
    many steps each, a trial goes on if it is among the best third of those that have come so far.

    Args:
        name: `asha`, or None.
        specs: specs of the sweep's trials.
        campaign: its folder, which keeps the results at each rung for later starts.

    Raises:
        UserError: for another name.
    """
    check_stop_early(name)
    if name is None:
        return None
    from tune_spaces.ray_tune.rungs import RecordedRungs

    steps = max(spec.steps for spec in specs)
    return RecordedRungs(
        campaign,
        time_attr=STEP,
        metric=VALIDATION,
        max_t=steps,
        grace_period=min(steps, *(spec.eval_every for spec in specs)),
        reduction_factor=REDUCTION,
        stop_last_trials=False,  # a trial that comes to its last step is evaluated on the test items
    )
