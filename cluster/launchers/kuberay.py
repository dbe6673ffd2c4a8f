"""A KubeRay RayJob: a cluster of its own for one run, removed when the run ends; campaigns stay on a shared volume.

A retry makes a new cluster and continues from the volume. Fields: KubeRay's API reference, ray.io/v1.
"""

import posixpath
import shlex
from typing import Any

from bridge_common.errors import UserError
from cluster.launchers.launch import Launch

RAY_VERSION = "2.60.0"
GCS_PORT = 6379
MOUNT = "/mnt/ablate"
SECRET = "ablate-env"
"""Kubernetes' Secret of the variables of `--env` that are secrets; a RayJob is shown to all who may list it."""

_HEADER = """\
# {phase} on {nodes} x {gpus} GPUs. Start with: kubectl create -f FILE; follow with: kubectl logs -f job/{name}
# To run it again, delete it first (kubectl delete rayjob {name}): the run continues where it stopped.
# Needs KubeRay 1.6 or newer, a ReadWriteMany volume claim {claim}, and the image {image} with this project installed.
"""


def render(launch: Launch) -> str:
    """Return the RayJob as YAML.

    Raises:
        UserError: for a storage that would be lost with the pods.
    """
    import yaml

    site = launch.site
    header = _HEADER.format(
        phase=launch.phase, nodes=launch.nodes, gpus=launch.gpus, name=launch.name, claim=site.claim, image=site.image
    )
    return header + secret_note(launch) + yaml.safe_dump(rayjob(launch), sort_keys=False, width=120)


def secret_note(launch: Launch) -> str:
    """Return the lines of the header that make the Secret; empty if the launch has no secrets."""
    if not launch.secrets:
        return ""
    literals = " ".join(f'--from-literal={name}="${name}"' for name in launch.secrets)
    return (
        f"# Reads {', '.join(launch.secrets)} from the Secret {SECRET}, which this file does not hold. Make it first:\n"
        f"# kubectl create secret generic {SECRET} --namespace {launch.site.namespace} {literals}\n"
    )


def rayjob(launch: Launch) -> dict[str, Any]:
    """Return the RayJob as plain values: a head without GPUs, and a group of equal workers."""
    import yaml

    site = launch.site
    storage = f"{MOUNT}/{site.storage.strip('/')}"
    _require_kept(launch.storage or storage)
    runtime = {"env_vars": {"PYTHONUNBUFFERED": "1", **launch.shown_variables}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": launch.name, "namespace": site.namespace},
        "spec": {
            "entrypoint": shlex.join(launch.command(storage)),
            "runtimeEnvYAML": yaml.safe_dump(runtime),
            "submissionMode": "K8sJobMode",
            "backoffLimit": 2,
            "activeDeadlineSeconds": site.hours * 3600,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "rayClusterSpec": {
                "rayVersion": RAY_VERSION,
                "authOptions": {"mode": site.auth_mode},
                "headGroupSpec": {
                    "rayStartParams": {"dashboard-host": "0.0.0.0", "num-gpus": "0", "port": str(GCS_PORT)},
                    "template": _pod("ray-head", launch, cpus=8, memory_gb=32, gpus=0),
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": launch.nodes,
                        "minReplicas": launch.nodes,
                        "maxReplicas": launch.nodes,
                        "rayStartParams": {"num-gpus": str(launch.gpus)},
                        "template": _pod(
                            "ray-worker", launch, cpus=launch.cpus, memory_gb=launch.memory_gb, gpus=launch.gpus
                        ),
                    }
                ],
            },
        },
    }


def _require_kept(storage: str) -> None:
    """Refuse a storage outside the volume: it would be another one on each pod, and end with them."""
    if posixpath.commonpath([MOUNT, posixpath.join("/", posixpath.normpath(storage))]) != MOUNT:
        raise UserError(f"--storage {storage} is not on the volume: name a folder below {MOUNT}, or leave it out")


def _pod(name: str, launch: Launch, *, cpus: int, memory_gb: int, gpus: int) -> dict[str, Any]:
    site = launch.site
    resources: dict[str, Any] = {"cpu": str(cpus), "memory": f"{memory_gb}Gi"}
    variables = {"RAY_USAGE_STATS_ENABLED": "0"}
    if site.auth_mode == "disabled":  # with tokens KubeRay sets mode and token on every pod itself
        variables["RAY_AUTH_MODE"] = "disabled"
    spec: dict[str, Any] = {}
    if gpus:
        resources["nvidia.com/gpu"] = str(gpus)
        spec["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
        if site.gpu_product:
            spec["nodeSelector"] = {"nvidia.com/gpu.product": site.gpu_product}
    container: dict[str, Any] = {
        "name": name,
        "image": site.image,
        "env": [
            *({"name": key, "value": value} for key, value in variables.items()),
            *({"name": key, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": key}}} for key in launch.secrets),
        ],
        "resources": {"limits": resources, "requests": dict(resources)},
        "volumeMounts": [{"name": "runs", "mountPath": MOUNT}, {"name": "shm", "mountPath": "/dev/shm"}],
    }
    if name == "ray-head":
        ports = {"gcs-server": GCS_PORT, "dashboard": 8265, "client": 10001}
        container["ports"] = [{"name": key, "containerPort": port} for key, port in ports.items()]
    # Ray's object store and NCCL share memory through /dev/shm, of which a pod has 64 MiB by default.
    shm = {"medium": "Memory", "sizeLimit": f"{max(2, memory_gb // 4)}Gi"}
    spec["containers"] = [container]
    spec["volumes"] = [
        {"name": "runs", "persistentVolumeClaim": {"claimName": site.claim}},
        {"name": "shm", "emptyDir": shm},
    ]
    return {"spec": spec}
