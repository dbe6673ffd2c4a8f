"""A KubeRay RayJob: a cluster of its own for one run, removed when the run ends; campaigns stay on a shared volume.

A retry makes a new cluster and goes on from the volume. Fields: KubeRay's API reference, ray.io/v1.
"""

import shlex
from typing import Any

from cluster.launchers.settings import RAY_VERSION, LaunchSettings

_MOUNT = "/mnt/ablate"

_HEADER = """\
# {phase} on {gpus} GPUs of one node. Start with: kubectl apply -f FILE; follow with: kubectl logs -f job/{name}
# Needs KubeRay 1.6 or newer, a ReadWriteMany volume claim {claim}, and an image with this project installed.
"""


def render(settings: LaunchSettings) -> str:
    """The RayJob as YAML."""
    import yaml

    header = _HEADER.format(phase=settings.phase, gpus=settings.gpus, name=settings.name, claim=settings.claim)
    return header + yaml.safe_dump(rayjob(settings), sort_keys=False, width=120)


def rayjob(settings: LaunchSettings) -> dict[str, Any]:
    """The RayJob as plain values."""
    import yaml

    runtime = {"env_vars": {"PYTHONUNBUFFERED": "1", **settings.variables}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": settings.name, "namespace": settings.namespace},
        "spec": {
            "entrypoint": shlex.join(settings.command(f"{_MOUNT}/{settings.storage.strip('/')}")),
            "runtimeEnvYAML": yaml.safe_dump(runtime),
            "submissionMode": "K8sJobMode",
            "backoffLimit": 2,
            "activeDeadlineSeconds": settings.hours * 3600,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "rayClusterSpec": {
                "rayVersion": RAY_VERSION,
                "authOptions": {"mode": settings.auth_mode},
                "headGroupSpec": {
                    "rayStartParams": {"dashboard-host": "0.0.0.0", "num-gpus": "0", "port": str(settings.gcs_port)},
                    "template": _pod("ray-head", settings, cpus=8, memory_gb=32, gpus=0),
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "gpus",
                        "replicas": 1,
                        "minReplicas": 1,
                        "maxReplicas": 1,
                        "rayStartParams": {"num-gpus": str(settings.gpus)},
                        "template": _pod(
                            "ray-worker", settings, cpus=settings.cpus, memory_gb=settings.memory_gb, gpus=settings.gpus
                        ),
                    }
                ],
            },
        },
    }


def _pod(name: str, settings: LaunchSettings, *, cpus: int, memory_gb: int, gpus: int) -> dict[str, Any]:
    resources: dict[str, Any] = {"cpu": str(cpus), "memory": f"{memory_gb}Gi"}
    variables = {"RAY_USAGE_STATS_ENABLED": "0"}
    if settings.auth_mode == "disabled":  # with tokens KubeRay sets mode and token on every pod itself
        variables["RAY_AUTH_MODE"] = "disabled"
    spec: dict[str, Any] = {}
    if gpus:
        resources["nvidia.com/gpu"] = str(gpus)
        spec["nodeSelector"] = {"nvidia.com/gpu.product": settings.gpu_product}
        spec["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    container: dict[str, Any] = {
        "name": name,
        "image": settings.image,
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "resources": {"limits": resources, "requests": dict(resources)},
        "volumeMounts": [{"name": "runs", "mountPath": _MOUNT}, {"name": "shm", "mountPath": "/dev/shm"}],
    }
    if not gpus:
        ports = {"gcs-server": settings.gcs_port, "dashboard": 8265, "client": 10001}
        container["ports"] = [{"name": key, "containerPort": port} for key, port in ports.items()]
    # Ray's object store and NCCL share memory through /dev/shm, of which a pod has 64 MiB by default.
    shm = {"medium": "Memory", "sizeLimit": f"{max(8, memory_gb // 4)}Gi"}
    spec["containers"] = [container]
    spec["volumes"] = [
        {"name": "runs", "persistentVolumeClaim": {"claimName": settings.claim}},
        {"name": "shm", "emptyDir": shm},
    ]
    return {"spec": spec}
