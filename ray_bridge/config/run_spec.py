"""`RunSpec` says where and how a job is carried out: nothing that changes its result."""

from typing import Annotated

from pydantic import Field

from bridge_common.errors import UserError
from ray_bridge.config.spec import JobSpec
from ray_bridge.config.validation import Frozen

Count = Annotated[int, Field(ge=1)]


class RunSpec(Frozen):
    """Where and how a job runs. Nothing here changes its result beyond the rounding of sums."""

    workers: int = Field(2, ge=1, description="worker processes of Ray Train, all on one node")
    use_gpu: bool = Field(False, description="give each worker one GPU; false computes on CPUs")
    cpus_per_worker: float = Field(1.0, gt=0, description="CPUs that Ray reserves for each worker")
    eval_batch_size: Count = Field(64, description="examples that one worker decodes together; changes speed only")
    checkpoint_every: Count = Field(100, description="steps between checkpoints, from which a killed job goes on")
    log_every: Count = Field(1, description="steps between records of the loss terms")
    max_failures: int = Field(2, ge=0, description="restarts allowed after a worker has failed")
    progress_timeout: float | None = Field(
        1800.0,
        ge=0,
        description="seconds without a step, an evaluated batch or another sign of life after which a job counts as "
        "hung: it is killed and started again from its checkpoint, as after a failure; none or 0 waits for ever",
    )
    resident: bool = Field(
        False,
        description="let the jobs that follow each other in one place share worker processes, with the frozen models "
        "loaded: the next one trains sooner, with the same numbers; as many run at once as without it",
    )
    autocast: bool = Field(True, description="train under bfloat16 autocast on GPUs that support it")
    recompute_tokens: int | None = Field(
        None,
        ge=0,
        description="positions of a worker's training pass above which the target's layers keep their input only and "
        "run again in the backward pass: less memory, a third more time, the same numbers; none means as many as the "
        "device's memory holds",
    )


def check_run(spec: JobSpec, run: RunSpec) -> None:
    """Refuse a job and a run that do not fit together.

    Raises:
        UserError: if the workers do not divide into groups of `target_shards`, or the batch among the groups.
    """
    workers, shards = run.workers, spec.target_shards
    if workers % shards:
        raise UserError(f"workers={workers} does not divide by target_shards={shards}: use a multiple of {shards}")
    groups = workers // shards
    if spec.batch_size % groups:
        among = f"{workers} workers" if shards == 1 else f"{groups} groups of workers"
        raise UserError(f"batch_size {spec.batch_size} does not divide among {among}: use a multiple of {groups}")
