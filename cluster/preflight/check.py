"""The outcome of a check, and the time limit that keeps a probe from hanging."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bridge_common.errors import UserError
from bridge_common.threads import NoAnswerError, bounded

Status = Literal["pass", "warn", "fail", "skip"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: what was checked.
        status: `pass`; `warn`, a run is possible but something will surprise; `fail`, a run would be refused, break or
            not count; `skip`, does not apply here.
        detail: what was seen.
        remedy: what to do about it; empty if there is nothing to do.
        node: address of the node that was checked; empty for the driver or the cluster.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""
    node: str = ""


def checked(name: str, probe: Callable[[], list[Check]], timeout_s: float) -> list[Check]:
    """Return the checks of a probe; one that hangs or raises becomes a failed check instead of ending the others."""
    try:
        return bounded(probe, timeout_s)
    except NoAnswerError as error:
        return [Check(name=name, status="fail", detail=str(error), remedy=f"see why the {name} does not answer")]
    except Exception as error:
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        return [Check(name=name, status="fail", detail=detail, remedy=f"see why the {name} cannot be read")]


def require(checks: Sequence[Check]) -> None:
    """Refuse to continue after failed checks.

    Raises:
        UserError: in one line, every failed check with its remedy.
    """
    failed = [check for check in checks if check.status == "fail"]
    if failed:
        raise UserError("preflight: " + "; ".join(map(_describe, failed)))


def _describe(check: Check) -> str:
    node = f" on {check.node}" if check.node else ""
    return f"{check.name}{node}: {check.detail} ({check.remedy})"
