"""A cluster file for `ray up` on hosts one owns. Ray's own start commands begin with `ray stop`; these do not."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from bridge_common.errors import UserError
from bridge_common.git import GIT_FACTS
from cluster.launchers.launch import Launch

DASHBOARD = "http://127.0.0.1:8265"
_HEADER = """\
# Ray on {hosts}. Start with: ray up FILE
# Then run the phase: ray exec FILE {submit}
# Starting it ends no Ray that runs there already. `ray down FILE` does: it calls `ray stop` on these hosts.
# Every host needs the project's environment at {environment}.
"""
_TOKEN = "~/.ray/auth_token"


def render(launch: Launch) -> str:
    """Return the cluster file as YAML.

    Raises:
        UserError: if the site does not name a host for every node, or a variable is a secret.
    """
    import yaml

    header = _HEADER.format(
        hosts=", ".join(launch.site.hosts),
        submit=shlex.quote(submit_command(launch)),
        environment=f"{_project(launch)}/{launch.site.environment}" if launch.site.environment else "its Python",
    )
    if launch.site.auth_mode == "token":
        header += f"# Make the token that it copies to every host, once: ray get-auth-token --generate ({_TOKEN})\n"
    return header + yaml.safe_dump(cluster(launch), sort_keys=False, width=120)


def cluster(launch: Launch) -> dict[str, Any]:
    """Return the cluster file as plain values.

    Raises:
        UserError: if the site does not name a host for every node, or a variable is a secret.
    """
    site = launch.site
    if launch.secrets:
        raise UserError(
            f"--env {launch.secrets[0]}: the file and its command lines would show it; leave it out, and set it on the "
            "hosts, in ~/.bashrc, before `ray up`"
        )
    if len(site.hosts) != launch.nodes:
        raise UserError(f"ray-up on {launch.nodes} nodes: name as many hosts, the head first, with --site hosts=A,B")
    mounts = {_project(launch): "."}
    if site.auth_mode == "token":
        mounts[_TOKEN] = _TOKEN
    resources = f"--num-gpus={launch.gpus} --num-cpus={launch.cpus} --dashboard-agent-listen-port=0"
    head = f"ray start --head --port={site.gcs_port} --dashboard-host=127.0.0.1 {resources}"
    worker = f"ray start --address=$RAY_HEAD_IP:{site.gcs_port} {resources}"
    prefix = _prefix(launch, {})
    return {
        "cluster_name": launch.name,
        "provider": {"type": "local", "head_ip": site.hosts[0], "worker_ips": list(site.hosts[1:])},
        "auth": {"ssh_user": site.ssh_user},
        "max_workers": len(site.hosts) - 1,
        "file_mounts": mounts,
        "cluster_synced_files": [],
        "rsync_exclude": [".git", ".venv", "runs"],
        "rsync_filter": [".gitignore"],
        "setup_commands": [],
        "head_start_ray_commands": [f"{prefix} && {head} --autoscaling-config=~/ray_bootstrap_config.yaml"],
        "worker_start_ray_commands": [f"{prefix} && {worker}"],
    }


def submit_command(launch: Launch) -> str:
    """Return the command that submits the phase on the head, for `ray exec`."""
    phase, *arguments = launch.command(launch.site.storage)[3:]
    command = ["python", "-m", "cluster", "submit", phase, "--address", DASHBOARD, "--no-follow", *arguments]
    facts = {GIT_FACTS: json.dumps(launch.code)} if launch.code else {}
    return f"{_prefix(launch, facts)} && {shlex.join(command)}"


def _project(launch: Launch) -> str:
    return launch.site.project or "~/ray-bridge"


def _quoted(folder: str) -> str:
    """Return a folder as one word of a shell, which replaces a leading ~ as before."""
    home, slash, rest = folder.partition("/")
    return f"{home}/{shlex.quote(rest)}" if home == "~" and slash and rest else shlex.quote(folder)


def _prefix(launch: Launch, more_variables: Mapping[str, str]) -> str:
    """Return what every command on a host begins with: folder, modules, environment, variables."""
    site = launch.site
    commands = [f"cd {_quoted(_project(launch))}"]
    if site.modules:
        commands.append(f"module load {shlex.join(site.modules)}")
    if site.environment:
        commands.append(f". {_quoted(site.environment)}/bin/activate")
    variables = {"RAY_AUTH_MODE": site.auth_mode, "RAY_USAGE_STATS_ENABLED": "0", **launch.variables, **more_variables}
    commands.append("export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items()))
    return " && ".join(commands)
