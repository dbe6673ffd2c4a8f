"""The launcher files: parsed and checked by what reads them, and the Slurm script run for real, with `srun` a stub."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from bridge_common.errors import UserError
from cluster.launchers import KINDS, render
from cluster.preflight.check import MODULES


def directives(script: str) -> dict[str, str]:
    """The #SBATCH lines that Slurm reads: those before the first command."""
    found = {}
    for line in script.splitlines():
        if line and not line.startswith("#"):
            break
        if match := re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line):
            found[match[1]] = match[2]
    return found


def test_the_slurm_script_asks_for_four_gpus_of_one_node():
    script = render("slurm", partition="gpu", hours=12)
    asked = directives(script)
    assert len(asked) == script.count("#SBATCH"), "Slurm ignores directives after the first command"
    assert asked["nodes"] == asked["ntasks"] == "1"
    assert (asked["gres"], asked["time"], asked["partition"]) == ("gpu:h100:4", "12:00:00", "gpu")
    assert asked["signal"] == "B:TERM@120", "the batch shell itself is told before the limit"
    assert "account" not in asked
    assert f"module load {' '.join(MODULES)}" in script
    assert "export RAY_AUTH_MODE=token" in script
    commands = [line for line in script.splitlines() if not line.lstrip().startswith("#")]
    assert not any("ray stop" in line or "symmetric-run" in line or "pkill" in line for line in commands)
    assert "python -m cluster phase1 --preset paper --storage runs" in script


def test_the_slurm_script_is_sound_bash(tmp_path):
    awkward = {
        "variables": {"NOTE": 'it\'s $HOME; "x"'},
        "project": "/data/my project",
        "arguments": ("--set", "a=b c"),
    }
    for changes in ({}, {"modules": (), "environment": None}, awkward):
        path = tmp_path / "job.sh"
        path.write_text(render("slurm", **changes))
        subprocess.run(["bash", "-n", str(path)], check=True)
        if shutil.which("shellcheck"):
            subprocess.run(["shellcheck", "--severity=warning", "--exclude=SC1091", str(path)], check=True)
    assert "'--set' " not in path.read_text()
    assert "--set 'a=b c'" in path.read_text()


@pytest.mark.parametrize("job", [1, 1499, 1500, 7_654_321, 2**31])
def test_ports_of_a_slurm_job_stay_clear_of_rays_workers_and_of_the_kernel(job):
    line = next(line for line in render("slurm").splitlines() if line.startswith("port="))
    done = subprocess.run(
        ["bash", "-c", f"{line}; echo $port"],
        env={"SLURM_JOB_ID": str(job)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) >= 20000
    assert int(done.stdout) + 7 < 32768


TEXT = {"type": "string", "minLength": 1}
DNS = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"}
COUNT = {"type": "integer", "minimum": 0}


def thing(required: dict, **optional: dict) -> dict:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def several(item: dict) -> dict:
    return {"type": "array", "items": item, "minItems": 1}


WORDS = {"type": "object", "additionalProperties": TEXT}
PARAMETERS = {"type": "object", "additionalProperties": TEXT, "propertyNames": {"pattern": "^[a-z-]+$"}}
CONTAINER = thing(
    {"name": TEXT, "image": TEXT, "resources": thing({"limits": WORDS, "requests": WORDS})},
    env=several(thing({"name": TEXT, "value": TEXT})),
    volumeMounts=several(thing({"name": TEXT, "mountPath": {"type": "string", "pattern": "^/"}})),
    ports=several(thing({"name": {"type": "string", "maxLength": 15}, "containerPort": {"type": "integer"}})),
)
VOLUME = thing(
    {"name": TEXT},
    persistentVolumeClaim=thing({"claimName": TEXT}),
    emptyDir=thing({"medium": {"const": "Memory"}, "sizeLimit": {"type": "string", "pattern": "^[0-9]+Gi$"}}),
)
TOLERATION = thing({"key": TEXT, "operator": {"enum": ["Exists", "Equal"]}, "effect": {"enum": ["NoSchedule"]}})
POD = thing(
    {"spec": thing({"containers": several(CONTAINER)}, volumes=several(VOLUME), nodeSelector=WORDS,
                   tolerations=several(TOLERATION))}
)  # fmt: skip
# The fields of KubeRay's ray.io/v1 types that the file uses, with their kinds and enumerations.
RAYJOB = thing(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": thing({"name": DNS, "namespace": DNS}),
        "spec": thing(
            {
                "entrypoint": TEXT,
                "rayClusterSpec": thing(
                    {
                        "rayVersion": TEXT,
                        "headGroupSpec": thing({"rayStartParams": PARAMETERS, "template": POD}),
                        "workerGroupSpecs": several(
                            thing(
                                {"groupName": TEXT, "minReplicas": COUNT, "maxReplicas": COUNT,
                                 "rayStartParams": PARAMETERS, "template": POD},
                                replicas=COUNT,
                            )
                        ),
                    },
                    authOptions=thing({"mode": {"enum": ["token", "disabled"]}}),
                ),
            },
            runtimeEnvYAML=TEXT,
            submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
            backoffLimit=COUNT,
            activeDeadlineSeconds={"type": "integer", "minimum": 1},
            shutdownAfterJobFinishes={"type": "boolean"},
            ttlSecondsAfterFinished=COUNT,
        ),
    }
)  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{}, {"auth_mode": "disabled", "variables": {"MLFLOW_TRACKING_URI": "http://m:5000"}}]
)
def test_the_rayjob_has_the_fields_of_its_types(changes):
    import jsonschema
    from ray.runtime_env import RuntimeEnv

    job = yaml.safe_load(render("kuberay", **changes))
    jsonschema.validate(job, RAYJOB)
    spec = job["spec"]["rayClusterSpec"]
    RuntimeEnv(**yaml.safe_load(job["spec"]["runtimeEnvYAML"]))
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for c in pod["containers"] for mount in c["volumeMounts"]} == volumes
    worker = spec["workerGroupSpecs"][0]
    assert worker["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert worker["rayStartParams"]["num-gpus"] == "4"
    told = [c.get("env", []) for g in (spec["headGroupSpec"], worker) for c in g["template"]["spec"]["containers"]]
    explicit = all({"name": "RAY_AUTH_MODE", "value": "disabled"} in variables for variables in told)
    assert explicit == (spec["authOptions"]["mode"] == "disabled")


def test_ray_reads_the_version_that_the_rayjob_names():
    import ray

    assert yaml.safe_load(render("kuberay"))["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__


@pytest.mark.parametrize("changes", [{}, {"workers": "gpu-node-2 gpu-node-3", "auth_mode": "disabled", "modules": ""}])
def test_rays_own_schema_takes_the_cluster_file(changes):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load(render("ray-up", **changes)))
    validate_config(config)
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    assert not any("ray stop" in command for command in starts), "Ray's defaults would end other Rays on the host"
    mode = changes.get("auth_mode", "token")
    assert all(f"RAY_AUTH_MODE={mode}" in command for command in starts)
    assert ("~/.ray/auth_token" in config["file_mounts"]) == (mode == "token")
    assert config["max_workers"] == (2 if changes else 0)
    for command in starts:
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_one_set_of_settings_reaches_all_three():
    for kind in KINDS:
        text = render(kind, phase="phase3", gpus=2, variables={"HF_HOME": "/models"}, storage="campaigns")
        assert "phase3" in text
        assert "/models" in text
        assert re.search(r"(gpu:h100:2|nvidia.com/gpu: '2'|--num-gpus=2)", text), kind
    for kind in ("slurm", "kuberay"):
        named = render(kind, arguments=["--preset", "paper", "--storage=/data/x"])
        assert "--storage=/data/x" in named
        assert "--storage runs" not in named


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("lsf", {}, "unknown launcher 'lsf': use slurm, kuberay, ray-up"),
        ("ray-up", {"gcs_port": 12000}, "10002 to 19999 belong to Ray's workers"),
        ("slurm", {"gpuss": 4}, "unknown field 'gpuss'"),
        ("slurm", {"gpus": 0}, "gpus=0"),
        ("slurm", {"partition": "gpu\n#SBATCH --mem=0"}, "partition"),
        ("kuberay", {"auth_mode": "none"}, "auth_mode"),
    ],
)
def test_impossible_settings_are_one_clear_line(kind, changes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        render(kind, **changes)


# ---------------------------------------------------------------- the script, run

SRUN = """#!/usr/bin/env bash
while [[ $1 == -* ]]; do shift; done
exec "$@"
"""
PHASE = """
import os, signal, sys, time
import ray
ray.init(log_to_driver=False, logging_level="ERROR")
@ray.remote(num_gpus=2)
def where():
    return os.environ["LOADED"]
print("phase", sys.argv[1:], ray.get(where.remote()), ray.cluster_resources()["GPU"], flush=True)
def end(*_):
    print("phase was told to end", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
while not os.path.exists(sys.argv[-1]):
    time.sleep(0.1)
print("still there", ray.get(where.remote()), flush=True)
sys.exit(2)
"""


def processes_of(temporary: str) -> list[str]:
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if temporary in line]


@pytest.mark.slow
def test_two_slurm_jobs_on_one_node_end_their_own_ray_only(tmp_path):
    """One is told to end, the other goes on and hands its exit code on; nothing of either stays."""
    project, tools = tmp_path / "project", tmp_path / "bin"
    (project / "cluster").mkdir(parents=True)
    (project / "cluster" / "__main__.py").write_text(PHASE)
    tools.mkdir()
    (tools / "srun").write_text(SRUN)
    (tools / "srun").chmod(0o755)
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SLURM_"))},
        "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BASH_FUNC_module%%": '() { echo module $*; if [ $1 = load ]; then shift; export LOADED="$*"; fi\n}',
        "SLURM_SUBMIT_DIR": str(project),
        "SLURM_CPUS_PER_TASK": "2",
        "RAY_health_check_initial_delay_ms": "0",
    }
    jobs, logs = {}, {}
    number = os.getpid() * 3
    try:
        for name, job in (("ended", number), ("whole", number + 1)):
            script = tmp_path / f"{name}.sh"
            go = tmp_path / f"{name}.go"
            script.write_text(
                render("slurm", gpus=2, environment=None, modules=MODULES[:2], arguments=["--go", str(go)])
            )
            script.write_text(script.read_text().replace(f"--go {go} --storage runs", f"--storage runs --go {go}"))
            logs[name] = tmp_path / f"{name}.log"
            with logs[name].open("w") as log:
                jobs[name] = subprocess.Popen(
                    ["bash", str(script)], env={**environment, "SLURM_JOB_ID": str(job)}, stdout=log,
                    stderr=subprocess.STDOUT, cwd="/", start_new_session=True,
                )  # fmt: skip
            deadline = time.monotonic() + 120
            while "phase [" not in logs[name].read_text():
                assert jobs[name].poll() is None, logs[name].read_text()
                assert time.monotonic() < deadline, logs[name].read_text()
                time.sleep(0.2)
        assert f"module load {shlex.join(MODULES[:2])}" in logs["whole"].read_text()
        assert (
            f"'phase1', '--storage', 'runs', '--go', '{tmp_path}/whole.go'] {' '.join(MODULES[:2])} 2.0"
            in logs["whole"].read_text()
        )
        assert processes_of(f"/tmp/ray-{number}-")

        jobs["ended"].send_signal(signal.SIGTERM)
        assert jobs["ended"].wait(60) == 7, logs["ended"].read_text()
        assert "phase was told to end" in logs["ended"].read_text()
        assert not processes_of(f"/tmp/ray-{number}-")

        (tmp_path / "whole.go").touch()
        assert jobs["whole"].wait(60) == 2, logs["whole"].read_text()
        assert "still there" in logs["whole"].read_text(), "its Ray survived the other job's end"
        assert not processes_of(f"/tmp/ray-{number + 1}-")
        assert not list(Path("/tmp").glob(f"ray-{number}-*"))
    finally:
        for job in jobs.values():
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
        for left in [*Path("/tmp").glob(f"ray-{number}-*"), *Path("/tmp").glob(f"ray-{number + 1}-*")]:
            shutil.rmtree(left, ignore_errors=True)
