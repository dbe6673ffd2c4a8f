"""The RayJob, checked against the fields of KubeRay's types, Kubernetes' own schema of pods, and Ray's runtime_env."""

from typing import Any

import pytest
import yaml

from cluster.launchers.kuberay import render
from tests.support.launches import paper_launch

TEXT = {"type": "string", "minLength": 1}
DNS = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "maxLength": 47}
COUNT = {"type": "integer", "minimum": 0}


def fields(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


PARAMETERS = {"type": "object", "additionalProperties": TEXT, "propertyNames": {"pattern": "^[a-z-]+$"}}
GROUP = fields(
    {"groupName": TEXT, "minReplicas": COUNT, "maxReplicas": COUNT, "rayStartParams": PARAMETERS, "template": {}},
    replicas=COUNT,
)
CLUSTER = fields(
    {
        "rayVersion": TEXT,
        "headGroupSpec": fields({"rayStartParams": PARAMETERS, "template": {}}),
        "workerGroupSpecs": {"type": "array", "items": GROUP, "minItems": 1},
    },
    authOptions=fields({"mode": {"enum": ["token", "disabled"]}}),
)
# The fields of KubeRay's ray.io/v1 types RayJob and RayCluster that the file uses, with their types and enumerations.
RAYJOB = fields(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": fields({"name": DNS, "namespace": DNS}),
        "spec": fields(
            {"entrypoint": TEXT, "rayClusterSpec": CLUSTER},
            runtimeEnvYAML=TEXT,
            submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
            backoffLimit=COUNT,
            activeDeadlineSeconds={"type": "integer", "minimum": 1},
            shutdownAfterJobFinishes={"type": "boolean"},
            ttlSecondsAfterFinished=COUNT,
        ),
    }
)
DISABLED = {"site": {"auth_mode": "disabled"}, "variables": {"MLFLOW_TRACKING_URI": "http://m:5000"}}


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    spec = job["spec"]["rayClusterSpec"]
    return [group["template"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


@pytest.mark.parametrize("changes", [{}, {"nodes": 3, "profile": "hpc"}, DISABLED])
def test_the_rayjob_has_the_fields_of_its_types(changes: dict[str, Any]) -> None:
    import jsonschema
    from ray.runtime_env import RuntimeEnv

    job = yaml.safe_load(render(paper_launch(**changes)))
    jsonschema.validate(job, RAYJOB)
    RuntimeEnv(**yaml.safe_load(job["spec"]["runtimeEnvYAML"]))
    for pod in pods(job):
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        assert {mount["name"] for c in pod["spec"]["containers"] for mount in c["volumeMounts"]} == volumes
        variables = [entry for container in pod["spec"]["containers"] for entry in container["env"]]
        mode = job["spec"]["rayClusterSpec"]["authOptions"]["mode"]
        assert ({"name": "RAY_AUTH_MODE", "value": "disabled"} in variables) == (mode == "disabled")


@pytest.mark.parametrize("changes", [{}, {"nodes": 3, "profile": "hpc"}, DISABLED])
def test_kubernetes_own_schema_takes_the_pods(changes: dict[str, Any]) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate brings Kubernetes' schemas")
    for pod in pods(yaml.safe_load(render(paper_launch(**changes)))):
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **pod}
        validator.validate(whole, "1.33", strict=True)
        whole["spec"]["containers"][0]["imag"] = "x"
        with pytest.raises(validator.ValidationError, match="imag"):
            validator.validate(whole, "1.33", strict=True)


def test_as_many_workers_as_nodes_each_with_its_gpus() -> None:
    job = yaml.safe_load(render(paper_launch(nodes=3, profile="hpc")))
    [group] = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert group["rayStartParams"]["num-gpus"] == "4"
    assert group["template"]["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert "nodeSelector" not in pods(yaml.safe_load(render(paper_launch())))[1]["spec"]
    assert job["spec"]["entrypoint"] == "python -m cluster phase1 --preset paper --storage /mnt/ablate/runs"


def test_ray_is_of_the_version_that_the_rayjob_names() -> None:
    import ray

    assert yaml.safe_load(render(paper_launch()))["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__
