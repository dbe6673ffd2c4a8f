"""Why a job failed, in one line: the innermost cause, without the wrappers of Ray, Ray Train and Ray Tune."""

import traceback
from collections.abc import Mapping

from bridge_common.errors import UserError

LOST_PEER = ("connection closed by peer", "connection reset by peer", "broken pipe", "communicator was aborted")
"""What workers report, in lower case, after another worker of the job has failed."""


def innermost(error: BaseException) -> BaseException:
    """Return the error that the job itself raised; of several workers, that of the one that failed first."""
    inner = _inside(error)
    while inner is not None and inner is not error:
        error, inner = inner, _inside(inner)
    return error


def cause_line(error: BaseException) -> str:
    """Return the innermost cause in one line; of a request that cannot be fulfilled, its message alone."""
    cause = innermost(error)
    message = str(cause).strip().split("\n", 1)[0]
    if isinstance(cause, UserError):
        return message
    return f"{type(cause).__name__}: {message}" if message else type(cause).__name__


def error_record(error: BaseException, attempt: str) -> dict[str, str | bool]:
    """Return the content of `error.json`; the last line of its traceback is the cause.

    Args:
        error: what the job raised.
        attempt: name of the driver's start.
    """
    line = cause_line(error)
    lines = "".join(traceback.format_exception(error)).rstrip()
    ends = lines if lines.endswith(f"\n{line}") else f"{lines}\n\n{line}"
    return {
        "attempt": attempt,
        "error": line,
        "refused": isinstance(innermost(error), UserError),
        "traceback": f"{ends}\n",
    }


def _inside(error: BaseException) -> BaseException | None:
    """Return what an error of Ray wraps, or None if it wraps nothing or is the job's own."""
    if not type(error).__module__.startswith("ray."):
        return None
    failures: Mapping[int, BaseException] = getattr(error, "worker_failures", None) or {}
    if failures:
        return _first(failures)
    for name in ("controller_failure", "_base_exc", "cause", "__cause__"):
        inner = getattr(error, name, None)
        if isinstance(inner, BaseException):
            return inner
    return None


def _first(failures: Mapping[int, BaseException]) -> BaseException:
    """Return the failure that others may have followed from: a refusal, else one that names no lost peer."""
    ordered = [failures[rank] for rank in sorted(failures)]
    refused = [failure for failure in ordered if isinstance(innermost(failure), UserError)]
    own = [failure for failure in ordered if not any(mark in cause_line(failure).lower() for mark in LOST_PEER)]
    return [*refused, *own, *ordered][0]
