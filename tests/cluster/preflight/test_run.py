"""Preflight against a real Ray of several raylets, real git remotes and real sockets; `module` is a stub."""

import dataclasses
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from bridge_common.threads import NoAnswerError, bounded
from cluster.launchers.site import load_site
from cluster.preflight import nodes as nodes_module
from cluster.preflight.check import Check, checked, require
from cluster.preflight.gpus import live_nodes, require_node, reserve
from cluster.preflight.quick import WITHIN_S, quick_checks
from cluster.preflight.run import preflight, print_checks
from cluster.preflight.settings import PreflightSettings
from ray_bridge.config.presets import preset

MODULES = load_site("hpc").modules
STUB = "() {  if [ \"$*\" = '-t list' ]; then printf 'Currently Loaded Modulefiles:\\n%s\\n' 'gcc/13.1.0'; fi\n}"


def found(checks: list[Check], name: str, node: str = "") -> Check:
    matching = [c for c in checks if c.name == name and (not node or c.node == node)]
    assert matching, f"no check {name} in {[c.name for c in checks]}"
    return matching[0]


# ---------------------------------------------------------------- the cluster


@pytest.fixture(scope="module")
def nodes():
    """Three raylets: a head without GPUs, one with 4 "H100", one with 2 "A100"; different modules on the two."""
    import ray
    from ray.cluster_utils import Cluster

    temporary = tempfile.mkdtemp(prefix="pf", dir="/tmp")
    ours = ("RAY_TMPDIR", "RAY_AUTH_MODE", "RAY_ADDRESS", "MODULESHOME", "LMOD_CMD", "MODULEPATH", "LOADEDMODULES")
    saved = {name: os.environ.pop(name, None) for name in ours}
    os.environ.update(RAY_TMPDIR=temporary, RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    small = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **small})
    loaded = {"MODULESHOME": "/opt/modules", "LOADEDMODULES": ":".join(MODULES)}
    kind = {"accelerator_type:H100": 1}
    big = cluster.add_node(num_cpus=4, num_gpus=4, resources=kind, env_vars=loaded, **small)
    part = {"BASH_FUNC_module%%": STUB}
    other = cluster.add_node(num_cpus=4, num_gpus=2, resources={"accelerator_type:A100": 1}, env_vars=part, **small)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield {"big": big.node_id, "other": other.node_id}
    ray.shutdown()
    cluster.shutdown()
    for name, value in saved.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    shutil.rmtree(temporary, ignore_errors=True)


@pytest.fixture
def settings(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"")
    return PreflightSettings(
        gpus=4, gpu_kind="h100", cpus=2, modules=MODULES, storage=tmp_path / "runs", models=(str(model),),
        repository=tmp_path, min_free_gb=0.001, timeout_s=30,
    )  # fmt: skip


def free_gpus() -> float:
    import ray

    return ray.available_resources().get("GPU", 0)


@pytest.mark.slow
def test_the_reserved_node_is_looked_at_and_given_back(nodes, settings):
    checks = preflight(settings)
    assert found(checks, "GPUs").status == "pass"
    assert "4 x H100" in found(checks, "GPUs").detail
    runtime = found(checks, "driver, CUDA, torch")
    assert runtime.status == "fail", "these GPUs exist in Ray's table only"
    assert "torch" in runtime.detail
    for name in ("software", "modules", "disk", "shared storage", "model", "data"):
        assert found(checks, name).status == "pass", found(checks, name)
    assert not list(settings.storage.rglob("*")), "the probe's files are removed"
    deadline = time.monotonic() + 10
    while free_gpus() < 6 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert free_gpus() == 6


@pytest.mark.slow
def test_every_node_that_may_be_used_is_looked_at(nodes, settings):
    checks = nodes_module.check_nodes(
        live_nodes(), dataclasses.replace(settings, modules=("gcc/13.1.0", "stockcuda/12.6.2")), wait_s=45
    )
    modules = {c.status: c for c in checks if c.name == "modules"}
    assert sorted(modules) == ["fail", "pass", "skip"], "head without modules, one node with all, one with gcc alone"
    assert modules["fail"].detail == "stockcuda/12.6.2 is not loaded"
    assert "module load gcc/13.1.0 stockcuda/12.6.2" in modules["fail"].remedy
    assert sum(c.name == "shared storage" for c in checks) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gpus": 8}, "the largest live node has 4 GPUs"),
        ({"gpus": 4, "gpu_kind": "A100"}, "the largest live node has 2 GPUs"),
        ({"gpus": 1, "gpu_kind": "B200"}, "no node has that kind"),
        ({"gpus": 2, "gpu_kind": None, "cpus": 64}, "64 CPUs"),
        ({"gpus": 0, "cpus": 64}, "the largest live node has 4 GPUs and 4 CPUs"),
    ],
)
@pytest.mark.slow
@pytest.mark.timeout(60)  # Ray itself would wait for ever
def test_what_no_node_has_is_refused(nodes, settings, changes, message):
    asked = dataclasses.replace(settings, **changes)
    with pytest.raises(UserError, match=message):
        require_node(asked)
    checks = preflight(asked)
    failed = next(c for c in checks if c.status == "fail" and c.name in ("GPUs", "CPUs"))
    assert message in failed.detail
    assert "4 GPU H100" in failed.detail, "says what there is"


@pytest.mark.slow
def test_busy_gpus_are_told_and_no_request_stays_behind(nodes, settings):
    import ray
    from ray.util.placement_group import placement_group

    asked = dataclasses.replace(settings, timeout_s=2)
    held = placement_group([{"GPU": 1, "accelerator_type:H100": 0.001}])
    ray.get(held.ready(), timeout=20)
    with pytest.raises(UserError, match=r"3 of 4 GPUs free"):
        reserve(asked)
    ray.util.remove_placement_group(held)
    with reserve(dataclasses.replace(settings, timeout_s=20)) as reservation:
        assert reservation.node.id == nodes["big"]
        assert reservation.node.kind == "H100"
    states = {row["state"] for row in ray.util.placement_group_table().values()}
    assert states <= {"REMOVED"}


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_task_that_hangs_is_bounded_and_ended(nodes):
    import ray

    @ray.remote(num_cpus=1)
    def hang() -> None:
        time.sleep(600)

    @ray.remote(num_cpus=0)
    def breaks() -> None:
        raise OSError("stale file handle")

    values = nodes_module.gather({"hangs": hang.remote(), "breaks": breaks.remote()}, 5)
    assert values["hangs"] == "no answer in 5 s"
    assert "stale file handle" in values["breaks"]
    deadline = time.monotonic() + 10
    while ray.available_resources().get("CPU", 0) < 9 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == 9
    checks = nodes_module.judge_node(values["hangs"], "n", PreflightSettings())
    assert [(c.name, c.status) for c in checks] == [("node", "fail")]


@pytest.mark.slow
def test_a_storage_that_cannot_be_written_fails_on_every_node(nodes, settings, tmp_path):
    (tmp_path / "file").write_text("")
    asked = dataclasses.replace(settings, storage=tmp_path / "file" / "runs", gpus=0, cpus=1)
    shared = [c for c in preflight(asked) if c.name == "shared storage"]
    assert len(shared) == 3
    assert all(c.status == "fail" and "the driver cannot write" in c.detail for c in shared)


@pytest.mark.slow
def test_the_quick_checks_of_a_cluster_take_seconds_and_no_gpu(nodes, settings):
    import ray

    holder = ray.util.placement_group([{"GPU": 4, "accelerator_type:H100": 0.001}])
    ray.get(holder.ready(), timeout=20)
    start = time.monotonic()
    checks = quick_checks(settings)
    assert time.monotonic() - start < WITHIN_S + 1
    ray.util.remove_placement_group(holder)
    large = next(node.address for node in live_nodes() if node.id == nodes["big"])
    assert {check.node for check in checks} == {"", large}, "only the node that could hold a job"
    for name in ("software", "memory", "disk", "shared storage", "model", "data", "tracking server"):
        assert found(checks, name).status == "pass", found(checks, name)
    require(checks)
    lost = quick_checks(dataclasses.replace(settings, models=("/no/where",)))
    with pytest.raises(UserError, match=r"^preflight: model on [0-9.]+: /no/where: no /no/where/config.json \(name a"):
        require(lost)
    with pytest.raises(UserError, match="the largest live node has 4 GPUs"):
        require(quick_checks(dataclasses.replace(settings, gpus=8)))


# ---------------------------------------------------------------- bounds


@pytest.mark.timeout(60)
def test_a_probe_that_never_returns_becomes_a_failed_check():
    with pytest.raises(NoAnswerError):
        bounded(lambda: time.sleep(600), 0.2)
    [check] = checked("tracking server", lambda: time.sleep(600), 0.2)
    assert (check.status, check.detail) == ("fail", "no answer in 0.2 s")
    [check] = checked("git", lambda: 1 / 0, 5)
    assert check.status == "fail"
    assert "ZeroDivisionError" in check.detail


def test_what_a_preset_needs():
    job, run = preset("paper")
    paper = PreflightSettings.for_run(job, run, modules=MODULES, gpu_kind="H100")
    assert (paper.gpus, paper.cpus, paper.modules, paper.strict_git, paper.gpu_kind) == (4, 16, MODULES, True, "H100")
    assert paper.models == (job.source, job.target)
    tiny = PreflightSettings.for_run(*preset("tiny"))
    assert (tiny.gpus, tiny.modules, tiny.strict_git) == (0, (), False)


def test_the_table_and_the_one_line_refusal():
    from rich.console import Console

    checks = [
        Check(name="git", status="pass", detail="main at 0123456789, clean"),
        Check(name="disk", status="warn", detail="[3 GB] free", remedy="free some", node="10.0.0.1"),
        Check(name="GPUs", status="fail", detail="needs one node with 4 GPUs", remedy="ask for fewer"),
    ]
    out = io.StringIO()
    print_checks(checks, Console(file=out, width=120))
    assert "[3 GB] free" in out.getvalue(), "brackets are text, not markup"
    assert "1 pass, 1 warn, 1 fail" in out.getvalue()
    with pytest.raises(UserError, match=r"^preflight: GPUs: needs one node with 4 GPUs \(ask for fewer\)$"):
        require(checks)
    require(checks[:2])


def test_importing_it_stays_light():
    code = (
        "import sys, cluster.preflight.run; print([m for m in ('ray', 'torch', 'mlflow', 'rich') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"
