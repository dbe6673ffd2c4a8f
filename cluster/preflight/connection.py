"""Connect to Ray within bounds: where nothing answers, or something else does, Ray itself tries for two minutes."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bridge_common.errors import UserError


@contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """The Ray of this process, or a connection that is closed again.

    Raises:
        UserError: nothing that is a Ray answers at the address. Ray itself would try for two minutes.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address not in (None, "auto", "local") and "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        _require_ray_at(str(address))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"cannot connect to Ray: {str(error).splitlines()[0]}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_ray_at(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"{address} is no Ray address: use HOST:PORT of its head, 6379 by default")
    if address.startswith("ray://"):
        raise UserError(
            f"{address} is a Ray Client address, which cannot train: use the head's HOST:PORT, or submit a job"
        )
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise UserError(f"no Ray at {address}: {error}") from error
    code = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"
    try:
        done = subprocess.run([sys.executable, "-c", code, address], capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"what answers at {address} is no Ray head (the dashboard's port is not its address)"
        ) from error
    if done.returncode:
        raise UserError(f"the Ray at {address} refuses: {(done.stderr.decode().strip().splitlines() or ['?'])[-1]}")
