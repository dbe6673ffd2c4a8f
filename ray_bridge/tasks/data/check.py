"""Look at a job's data before anything starts: which data set it is, at which commit, and whether it can be used."""

from bridge_common.errors import UserError
from ray_bridge.config.spec import JobSpec
from ray_bridge.tasks.data.hub import HubData, hub_commit
from ray_bridge.tasks.registry import TASKS
from ray_bridge.tasks.splits import load_splits


def hub_data(spec: JobSpec) -> HubData | None:
    """Return the hub's data set that a job reads; None if its data lie in a folder or are generated."""
    reads = getattr(TASKS.load(spec.task), "hub_data", None)
    hub: HubData | None = reads(spec) if reads is not None and spec.task_data is None else None
    return hub


def pin_data(spec: JobSpec) -> JobSpec:
    """Return a job whose `task_revision` is the commit of the hub's data set that it would read now.

    A branch moves, a commit does not: with the commit in it, the fingerprint says which data were measured on. Jobs on
    other data are returned as they are.

    Raises:
        HubUnreachableError: if neither the hub nor this machine's cache knows the commit.
        UserError: if the hub does not have the data set, or gives no access.
    """
    hub = hub_data(spec)
    return spec if hub is None else spec.replace(task_revision=hub_commit(hub.name, spec.task_revision))


def check_data(spec: JobSpec) -> list[str]:
    """Read the folder of a job's data as the job will, and return what a user should know of it, a line each.

    Raises:
        UserError: in one line with file, row and remedy, for whatever the job could not use.
    """
    if spec.task_data is None:
        return []
    splits = load_splits(spec)
    for name, part in (("training", splits.train), ("test", splits.test)):
        if not part:
            raise UserError(f"{spec.task_data} has no {name} examples: add rows, or lower validation_examples")
    return list(getattr(splits.task, "notes", list)())
