"""Environment variables of a run: those that are named, and settings of libraries that every job needs."""

import os
import re
from collections.abc import Mapping, Sequence

from bridge_common.errors import UserError
from bridge_common.paths import plain
from bridge_common.web import has_password
from cluster.default_paths import STORAGE

# Settings of a run that live in the environment. Secrets are not among them: Ray keeps a job's variables readable for
# whoever can see its dashboard, so a token is sent only if it is named.
PASSED_ON = (
    "MLFLOW_TRACKING_URI", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "NCCL_DEBUG",
)  # fmt: skip
NOTIFY = "ABLATE_NOTIFY"
"""The address of `--notify`, if it is a secret itself: Ray shows command lines of drivers and jobs on its dashboard."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|APIKEY|ACCESSKEY|PRIVATEKEY|(?:^|_)(?:KEY|PASS)(?:_|$)|_PWD(?:_|$)",
    re.IGNORECASE,
)


def named_variables(names: Sequence[str]) -> dict[str, str]:
    """Return the variables of `--env`: `NAME=VALUE`, or `NAME` for the value that it has here.

    Raises:
        UserError: if a variable without a value is not set here, or a name is none.
    """
    values = {}
    for text in names:
        name, given, value = text.partition("=")
        if not _NAME.fullmatch(name):
            raise UserError(  # without the value, which may be a secret
                f"--env {plain(name)}: a variable's name has letters, digits and _ alone; give NAME=VALUE or NAME"
            )
        if not given and name not in os.environ:
            raise UserError(f"--env {name}: no such variable here; write --env {name}=VALUE")
        values[name] = value if given else os.environ[name]
    return values


def job_variables(names: Sequence[str]) -> dict[str, str]:
    """Return the variables of a submitted job: those of `PASSED_ON` that are set here, and the named ones.

    Raises:
        UserError: if a variable that is named without a value is not set here, or one that is not named has a password.
    """
    named = named_variables(names)
    values = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | named
    for name, value in values.items():
        if name not in named and has_password(value):
            raise UserError(
                f"{name} has a password, and Ray shows a job's variables on its dashboard: unset it and set it on the "
                f"cluster's nodes, or name it, --env {name}, to send it all the same"
            )
    values.pop(STORAGE, None)  # the storage is an argument of the phase
    return values


def unsent_note(names: Sequence[str]) -> str | None:
    """Return a line on the address for notices that is set here and not named with `--env`; None if there is none."""
    if not os.environ.get(NOTIFY) or any(text.partition("=")[0] == NOTIFY for text in names):
        return None
    return f"note: ${NOTIFY} stays here, since Ray shows a job's variables: --env {NOTIFY} sends it all the same"


def secrets_among(variables: Mapping[str, str]) -> list[str]:
    """Return the names of variables that are secrets, by their names or as addresses with a password."""
    return [
        name
        for name, value in variables.items()
        if name == NOTIFY or _SECRET.search(name) is not None or has_password(value)
    ]
