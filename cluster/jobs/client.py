"""Connect to Ray's job client within bounds; an address that is given counts more than those in the environment."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bridge_common.errors import UserError
from bridge_common.threads import NoAnswerError, bounded
from bridge_common.web import is_web_address
from mlflow_utils.tracking_uri import shown
from tune_spaces.ray_tune.connect import WANTS_TOKEN

PROJECT = "ablate"  # marks the jobs of this project
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ANSWER_S = 15.0


def first_line(text: str | None) -> str:
    """Return the first line of a message."""
    return (text or "").strip().split("\n")[0]


def connect(address: str | None = None) -> Any:
    """Return Ray's job client for an address.

    The address counts more than the environment, which with Ray's own client is the reverse.

    Raises:
        UserError: if no cluster is named, nothing answers there, what answers is no Ray dashboard, or it wants another
            token. Ray itself would wait for minutes.
    """
    chosen = address or os.environ.get("RAY_API_SERVER_ADDRESS") or _of_head(os.environ.get("RAY_ADDRESS"))
    if chosen is None:
        raise UserError(f"which cluster? Give its dashboard's address, such as --address {DEFAULT_ADDRESS}")
    url = chosen if "://" in chosen else f"http://{chosen}"
    if not is_web_address(url):
        raise UserError(f"{shown(chosen)} is no address for jobs: use that of the dashboard, such as {DEFAULT_ADDRESS}")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in ("_private.runtime_env.packaging", "dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk"):
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)  # a line for every file that it leaves out
    remedy = "start Ray (ray start --head), or give the dashboard's address with --address http://HOST:8265"
    try:
        with _environment("RAY_API_SERVER_ADDRESS", url):
            return bounded(lambda: JobSubmissionClient(url), ANSWER_S)
    except AuthenticationError as error:
        raise UserError(f"the Ray at {shown(url)} {WANTS_TOKEN}") from error
    except (NoAnswerError, OSError, RuntimeError) as error:
        reason = first_line(str(error)).replace(url, shown(url))
        raise UserError(f"no Ray dashboard at {shown(url)} ({reason}): {remedy}") from error


def _of_head(address: str | None) -> str | None:
    """Return the dashboard's address for a head's address, as $RAY_ADDRESS names it; None if it names no cluster."""
    if address in (None, "", "local"):
        return None
    if address == "auto":  # the Ray of this machine
        return DEFAULT_ADDRESS
    return address if address.startswith("http") else f"http://{address.removeprefix('ray://').rpartition(':')[0]}:8265"


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
