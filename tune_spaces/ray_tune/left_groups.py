"""Remove placement groups that nobody can use any more, whose CPUs and GPUs a Ray would keep for ever.

Ray removes a job's groups when the job ends. A group that one of its processes asks for at that moment is made
afterwards, and stays (Ray 2.60): Ray Train's controller, whose workers the end of the job kills, asks for new ones.
"""

import time
from typing import Any

from tune_spaces.ray_tune.silent_head import Answer, Head

WAIT_S = 1.0
"""Seconds after the end of a job in which such a group may still be made."""


def remove_left_groups() -> int:
    """Remove the groups of jobs that have ended from the Ray to which this process is connected; return how many.

    A group with a lifetime of its own (`detached`), or of an actor that lives on, is no such group.
    """
    from ray._private.state import state
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    left = _left(state._connect_and_get_accessor())
    for group in left:
        remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))
    return len(left)


def leaves_groups(address: str, job: str) -> bool:
    """Return whether a job that has just ended leaves a group; asked without a connection, which is a job itself.

    Args:
        address: HOST:PORT of the head; False if it does not answer.
        job: the job's id in hexadecimal digits.
    """
    from ray._raylet import GcsClientOptions, GlobalStateAccessor  # type: ignore[attr-defined]

    head = Head(address)
    answers = head.ask(WAIT_S) is Answer.YES
    head.close()
    if not answers:
        return False
    time.sleep(WAIT_S)
    accessor = GlobalStateAccessor(
        GcsClientOptions.create(address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=True)
    )
    return accessor.connect() and any(group.creator_job_id.hex() == job for group in _left(accessor))


def _left(accessor: Any) -> list[Any]:
    """Return the records of groups whose job and actor have ended, as Ray's control store has them."""
    from ray._raylet import ActorID
    from ray.core.generated import gcs_pb2

    ended = {job.job_id for job in map(gcs_pb2.JobTableData.FromString, accessor.get_job_table()) if job.is_dead}
    groups = map(gcs_pb2.PlacementGroupTableData.FromString, accessor.get_placement_group_table())

    def lives(actor: bytes) -> bool:
        record = accessor.get_actor_info(ActorID(actor)) if actor.strip(b"\xff") else None
        return record is not None and gcs_pb2.ActorTableData.FromString(record).state != gcs_pb2.ActorTableData.DEAD

    return [
        group
        for group in groups
        if group.state != gcs_pb2.PlacementGroupTableData.REMOVED
        and group.creator_job_id in ended
        and not group.is_detached
        and not lives(group.creator_actor_id)
    ]
