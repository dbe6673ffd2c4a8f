"""Connect to Ray, quietly and within bounds, and end a local Ray so that no GPU stays taken.

Where nothing answers at an address, or something other than a Ray head does, Ray itself tries for two minutes.
"""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bridge_common.environment import variables_set
from bridge_common.errors import UserError, reason_of
from ray_bridge import RunSpec
from tune_spaces.ray_tune import left_groups
from tune_spaces.ray_tune.interrupts import despite_rays_handler
from tune_spaces.ray_tune.nodes import check_fits, check_local, needs
from tune_spaces.ray_tune.orphans import ended_if_interrupted
from tune_spaces.ray_tune.silent_head import Answer, Head

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the experiment names the loggers that it wants
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # signals are received by `interrupts`
    "RAY_AIR_NEW_OUTPUT": "0",  # the other reporter prints its tables whatever the verbosity
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial's final report has test metrics, not the scheduler's
    "TUNE_MAX_PENDING_TRIALS_PG": "32",  # trials whose actors start at once; by default they start one by one
    # A job that cannot be placed on its preferred node fails after this many seconds instead of waiting forever.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",
}
WANTS_TOKEN = (
    "wants a token, and the one here is missing or another: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as there"
)
WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"  # starts a process a trial
# A process whose head is away for a minute is ended by Ray's own code, without a word where a user sees it. A raylet,
# whose environment is the cluster's, ends then as well, and with it this process, in one line: see `lost_ray`.
PATIENT = {"RAY_gcs_rpc_server_reconnect_timeout_s": "86400"}
TCP_TIMEOUT_S = 5.0
GCS_TIMEOUT_S = 20.0


def cluster_address(address: str | None = None) -> str | None:
    """Return the address of the Ray cluster to join, or None if a local Ray is to be started.

    Args:
        address: HOST:PORT of the head, `auto` or `local`; `$RAY_ADDRESS` by default.
    """
    chosen = address or os.environ.get("RAY_ADDRESS")
    return None if chosen in (None, "", "local") else chosen


@contextmanager
def connected(run: RunSpec | None = None, *, address: str | None = None, dashboard: bool = True) -> Iterator[None]:
    """Connect this process to Ray for the duration of the block.

    A Ray to which the process is connected already is used and left as it is. Otherwise the cluster at `address` is
    joined, after asking in seconds whether a Ray answers there, or a local Ray is started, and ended with the block.

    Args:
        run: a job that the Ray must be able to hold; it is not checked if None.
        address: as in `cluster_address`.
        dashboard: whether a local Ray has one. Without it, it starts sooner, but a training that is stopped in the
            middle keeps its GPUs.

    Raises:
        UserError: no Ray answers at the address, none starts here, or no node can hold the job; for a local Ray, before
            it starts if this machine has too few GPUs.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        if run is not None:
            check_fits(run)
        yield
        return
    cluster = cluster_address(address)
    if cluster is None:
        _start_local(run, dashboard)
    else:
        _join(cluster)
    import ray

    try:
        if run is not None:
            check_fits(run)
        yield
    finally:
        if cluster is None:
            ray.shutdown()
        else:
            _leave(cluster)


def require_ray_at(address: str) -> None:
    """Ask by TCP, then by Ray's own protocol, whether a Ray head answers at an address.

    Args:
        address: HOST:PORT of the head.

    Raises:
        UserError: none does, or the address is of another form.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"{address} is no Ray address: use HOST:PORT of its head, 6379 by default")
    if address.startswith("ray://"):
        raise UserError(
            f"{address} is a Ray Client address, which cannot train: use the head's HOST:PORT, or submit a job"
        )
    try:
        socket.create_connection((host, int(port)), timeout=TCP_TIMEOUT_S).close()
    except OSError as error:
        raise UserError(
            f"no Ray at {address} ({error.strerror or error}): start one there (ray start --head), name another by "
            "RAY_ADDRESS, or unset it for a Ray of this machine's own"
        ) from error
    # In a process of its own, since a client that gets no answer cannot be interrupted.
    code = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"
    command = [sys.executable, "-c", code, address]
    try:
        done = subprocess.run(command, capture_output=True, timeout=GCS_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        if Head(address).ask(TCP_TIMEOUT_S) in (Answer.NONE, Answer.BUSY):
            raise UserError(
                f"what listens at {address} does not answer: if it is a Ray head, its process gcs_server there is "
                "stopped (`kill -CONT` lets it go on) or hangs"
            ) from error
        raise UserError(
            f"what answers at {address} is no Ray head (the dashboard's port is not its address)"
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        if "uthentication token" in said:
            raise UserError(f"the Ray at {address} {WANTS_TOKEN}")
        raise UserError(f"the Ray at {address} refuses: {(said.splitlines() or ['?'])[-1]}")


def _join(address: str) -> None:
    # In a Ray job the address is Ray's own, so it need not be asked.
    if address != "auto" and "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        require_ray_at(address)
    try:
        _connect(address)
        left_groups.remove_left_groups()
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"cannot connect to Ray: {str(error).splitlines()[0]}") from error


def _connect(address: str) -> None:
    with despite_rays_handler(), variables_set(PATIENT):  # which Ray reads when it is imported, and again
        import ray

        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            # for Ray Train's process that frees what a dead job held: see `_local_environment`
            runtime_env=None if address == "auto" else {"env_vars": {"RAY_ADDRESS": address}},
        )


def _leave(address: str) -> None:
    """End the connection to a Ray that was joined, and remove the placement groups that this job leaves there.

    If that fails, a warning is printed: the next start on that Ray removes them.
    """
    import ray

    if not ray.is_initialized():  # the body has ended it
        return
    context = ray.get_runtime_context()
    head, job = context.gcs_address, context.get_job_id()
    ray.shutdown()
    try:
        if left_groups.leaves_groups(head, job):
            _connect(address)
            left_groups.remove_left_groups()
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        print(f"warning: the Ray at {head} may keep resources reserved for this ended start: {reason_of(error)}")
    finally:
        ray.shutdown()


def _start_local(run: RunSpec | None, dashboard: bool) -> None:
    cpus = os.cpu_count() or 1
    if run is not None:
        check_local(run)
        cpus = max(cpus, int(-(-needs(run)["CPU"] // 1)))
    import ray

    # With token authentication a local Ray leaves a token file that a later `ray start` would insist on.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    try:
        with despite_rays_handler(), ended_if_interrupted(), _local_environment():
            ray.init(
                address="local",  # never a Ray that somebody else has started on this machine
                num_cpus=cpus,
                include_dashboard=dashboard,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:  # Ray raises a plain Exception if its processes are not there within 30 seconds
        ray.shutdown()
        raise UserError(
            f"no Ray starts on this machine: {' '.join(str(error).split())} (try again when fewer processes run, or "
            "set RAY_ADDRESS to a cluster's HOST:PORT)"
        ) from error


@contextmanager
def _local_environment() -> Iterator[None]:
    """Let the processes of a local Ray that the body starts know its address.

    Ray Train's process that frees the resources of a dead job asks the Ray at `$RAY_ADDRESS`. Without an address it
    looks for one on the machine, and finds two if another Ray runs there; then the resources stay taken. Its process
    that watches for nodes about to be taken away is left out unless the environment asks for it: this is the only node.
    """
    import ray

    port = _free_port()
    own = {"RAY_GCS_SERVER_PORT": str(port), "RAY_ADDRESS": f"{ray.util.get_node_ip_address()}:{port}"}
    watch = {WATCHER: os.environ.get(WATCHER, "0")}
    with variables_set(own | watch):
        yield


def _free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("", 0))
        return int(unused.getsockname()[1])
