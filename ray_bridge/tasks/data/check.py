"""Look at a job's data before anything starts: which data set it is, at which commit, and whether it can be used."""

from ray_bridge.config.spec import JobSpec
from ray_bridge.tasks.data.hub import cached_snapshot
from ray_bridge.tasks.question_answering import HubTask
from ray_bridge.tasks.registry import TASKS


def hub_name(spec: JobSpec) -> str | None:
    """Return the name of the hub's data set that a job is measured on; None if it reads no such data set."""
    task = TASKS.load(spec.task)
    return task.hub_name(spec) if issubclass(task, HubTask) else None


def pin_data(spec: JobSpec) -> JobSpec:
    """Return a job that names the commits of the hub's data sets that it would read now.

    A branch moves, a commit does not: with the commit in it, the fingerprint says which data were measured on. Jobs on
    other data are returned as they are.

    Raises:
        HubUnreachableError: if neither the hub nor this machine's cache knows the commit.
        UserError: if the hub does not have the data set, or gives no access.
    """
    task = TASKS.load(spec.task)
    return task.pinned(spec) if issubclass(task, HubTask) else spec


def check_data(spec: JobSpec) -> list[str]:
    """Read a job's data as the job will, and return what a user should know of them, a line each.

    Generated data are not read, nor what the package's own tasks read from the hub, unless this machine's
    cache has it.

    Raises:
        UserError: in one line with file, row and remedy, for whatever the job could not use.
    """
    if spec.task_data is None and spec.task_mapping is None and not _is_cached(spec):
        return []
    from ray_bridge.tasks.splits import load_splits

    splits = load_splits(spec)
    return list(getattr(splits.task, "notes", list)())


def _is_cached(spec: JobSpec) -> bool:
    """Return whether this machine's cache has the files of the commit that a task reads from the hub."""
    name = hub_name(spec)
    if name is None or spec.task_revision is None:
        return False
    return cached_snapshot(name, spec.task_revision) is not None
