"""Check of the MLflow store: one that is unreachable now would be missed only after the GPUs are held."""

from bridge_common.errors import UserError
from cluster.preflight.check import Check
from cluster.preflight.settings import PreflightSettings
from mlflow_utils.tracking_uri import check, shown

NAME = "tracking server"


def check_tracking(settings: PreflightSettings) -> list[Check]:
    """Check that MLflow's server answers, or that its database can be written."""
    uri = settings.tracking_uri
    if uri is None:
        return [Check(name=NAME, status="pass", detail="the default: a database beside the campaigns")]
    try:
        check(uri, min(5, settings.timeout_s))
    except UserError as error:
        detail, _, remedy = str(error).rpartition(": ")
        return [Check(name=NAME, status="fail", detail=detail, remedy=remedy)]
    return [Check(name=NAME, status="pass", detail=f"{shown(uri)} can be used")]
