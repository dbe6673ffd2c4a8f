"""A cluster file for `ray up` on machines one owns. Ray's own start commands begin with `ray stop`; these do not."""

import shlex
from typing import Any

from cluster.launchers.settings import LaunchSettings

_HEADER = """\
# Ray on {hosts}. Start with: ray up FILE; then, in another terminal: ray dashboard FILE
# Run with: python -m cluster submit {phase} --address http://127.0.0.1:8265 {arguments}
# Starting it ends no Ray that runs there already. `ray down FILE` does: it calls `ray stop` on these hosts.
"""
_TOKEN = "~/.ray/auth_token"


def render(settings: LaunchSettings) -> str:
    """The cluster file as YAML."""
    import yaml

    header = _HEADER.format(
        hosts=", ".join((settings.head, *settings.workers)),
        phase=settings.phase,
        arguments=shlex.join(settings.arguments),
    )
    if settings.auth_mode == "token":
        header += f"# Make the token that it copies to every host, once: ray get-auth-token --generate ({_TOKEN})\n"
    return header + yaml.safe_dump(cluster(settings), sort_keys=False, width=120)


def cluster(settings: LaunchSettings) -> dict[str, Any]:
    """The cluster file as plain values."""
    project = settings.project or "~/ray-bridge"
    variables = {"RAY_AUTH_MODE": settings.auth_mode, "RAY_USAGE_STATS_ENABLED": "0", **settings.variables}
    before = [f"cd {project}"]
    if settings.modules:
        before.append(f"module load {shlex.join(settings.modules)}")
    if settings.environment:
        before.append(f". {settings.environment}/bin/activate")
    before.append("export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items()))
    prefix = " && ".join(before)
    mounts = {project: "."}
    if settings.auth_mode == "token":
        mounts[_TOKEN] = _TOKEN
    head = f"ray start --head --port={settings.gcs_port} --num-gpus={settings.gpus} --dashboard-host=127.0.0.1"
    return {
        "cluster_name": settings.name,
        "provider": {"type": "local", "head_ip": settings.head, "worker_ips": list(settings.workers)},
        "auth": {"ssh_user": settings.ssh_user},
        "min_workers": len(settings.workers),
        "max_workers": len(settings.workers),
        "file_mounts": mounts,
        "cluster_synced_files": [],
        "rsync_exclude": [".git", ".venv", "runs"],
        "rsync_filter": [".gitignore"],
        "setup_commands": [],
        "head_start_ray_commands": [f"{prefix} && {head} --autoscaling-config=~/ray_bootstrap_config.yaml"],
        "worker_start_ray_commands": [f"{prefix} && ray start --address=$RAY_HEAD_IP:{settings.gcs_port}"],
    }
