"""The RayJob, checked against the schemas of KubeRay's resource, of Kubernetes' pods, and of Ray's runtime_env."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge_common import files
from cluster.launchers.kuberay import render
from tests.support.launches import paper_launch

SCHEMA = Path(__file__).with_name("rayjob.schema.json")
SECRETS = {"variables": {"ABLATE_NOTIFY": "https://hooks/x"}}
DISABLED = {"site": {"auth_mode": "disabled"}, "variables": {"MLFLOW_TRACKING_URI": "http://m:5000"}}


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    spec = job["spec"]["rayClusterSpec"]
    return [group["template"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


@pytest.mark.parametrize("changes", [{}, {"nodes": 3, "profile": "hpc"}, DISABLED, SECRETS])
def test_the_rayjob_has_the_fields_of_its_types(changes: dict[str, Any]) -> None:
    import jsonschema
    from ray.runtime_env import RuntimeEnv

    job = yaml.safe_load(render(paper_launch(**changes)))
    jsonschema.Draft202012Validator(files.read_json(SCHEMA)).validate(job)
    RuntimeEnv(**yaml.safe_load(job["spec"]["runtimeEnvYAML"]))
    for pod in pods(job):
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        assert {mount["name"] for c in pod["spec"]["containers"] for mount in c["volumeMounts"]} == volumes
        variables = [entry for container in pod["spec"]["containers"] for entry in container["env"]]
        mode = job["spec"]["rayClusterSpec"]["authOptions"]["mode"]
        assert ({"name": "RAY_AUTH_MODE", "value": "disabled"} in variables) == (mode == "disabled")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "submissionMode"), "k8s"),
        (("spec", "activeDeadlineSeconds"), 0),
        (("spec", "shutdownAfterJobFinishes"), False),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "none"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-gpus"), 0),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "replica"), 3),
        (("metadata", "name"), "Ablate_phase1"),
    ],
)
def test_the_schema_refuses_what_kuberay_would(path: tuple[Any, ...], value: Any) -> None:
    import jsonschema

    job = copy.deepcopy(yaml.safe_load(render(paper_launch())))
    at = job
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(files.read_json(SCHEMA)).validate(job)


@pytest.mark.parametrize("changes", [{}, {"nodes": 3, "profile": "hpc"}, DISABLED, SECRETS])
def test_kubernetes_own_schema_takes_the_pods(changes: dict[str, Any]) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate brings Kubernetes' schemas")
    for pod in pods(yaml.safe_load(render(paper_launch(**changes)))):
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **pod}
        validator.validate(whole, "1.33", strict=True)
        whole["spec"]["containers"][0]["imag"] = "x"
        with pytest.raises(validator.ValidationError, match="imag"):
            validator.validate(whole, "1.33", strict=True)


def test_secrets_are_read_by_every_pod_from_kubernetes_own_secret() -> None:
    job = yaml.safe_load(render(paper_launch(variables={"NOTE": "x", "HF_TOKEN": "planted"})))
    reference = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "ablate-env", "key": "HF_TOKEN"}}}
    for pod in pods(job):
        assert reference in pod["spec"]["containers"][0]["env"]
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"] == {"PYTHONUNBUFFERED": "1", "NOTE": "x"}
    assert "planted" not in str(job)


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
