"""Check of driver, CUDA and torch on the reserved GPUs: they see the same devices, and a matrix product is right."""

import json
import subprocess
import sys
from typing import Any

from cluster.preflight.check import Check

# In a process of its own: an import or a CUDA call that hangs can then be ended, and its GPU memory is freed.
SCRIPT = r"""
import ctypes, json, subprocess
facts = {"problem": "", "driver_cuda": 0}
def smi(fields):
    out = subprocess.run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
                         capture_output=True, text=True, timeout=20)
    return [[part.strip() for part in line.split(",")] for line in out.stdout.splitlines() if line.strip()]
try:
    facts["driver"] = smi("driver_version")[0][0]
except (OSError, IndexError, subprocess.TimeoutExpired):
    facts["driver"] = None
try:
    version = ctypes.c_int()
    ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    facts["driver_cuda"] = version.value
except OSError:
    pass
try:
    import torch
    facts["torch"], facts["cuda"] = torch.__version__, torch.version.cuda
    facts["available"] = torch.cuda.is_available()
    facts["devices"] = []
    for index in range(torch.cuda.device_count()):
        device = {"name": torch.cuda.get_device_name(index)}
        facts["devices"].append(device)
        try:
            free, total = torch.cuda.mem_get_info(index)
            device.update(free=free, total=total)
            one = torch.ones(64, 64, device=f"cuda:{index}", dtype=torch.bfloat16)
            device["right"] = float((one @ one).float().sum()) == 64.0 ** 3
        except Exception as error:
            device["problem"] = f"{type(error).__name__}: {error}".splitlines()[0]
except Exception as error:
    facts["problem"] = f"{type(error).__name__}: {error}".splitlines()[0]
print(json.dumps(facts))
"""


def runtime_facts(timeout_s: float = 60) -> dict[str, Any]:
    """Return what torch sees of the GPUs that this process may use, from a process of its own."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return {"problem": f"torch did not answer in {timeout_s:g} s"}
    if done.returncode:
        return {"problem": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def judge_runtime(facts: dict[str, Any], *, gpus: int, kind: str | None, modules: tuple[str, ...], node: str) -> Check:
    """Check that driver, CUDA and torch agree on the reserved GPUs."""
    name = "driver, CUDA, torch"
    problem = _unusable(facts) or _not_as_asked(facts["devices"], gpus, kind)
    if problem:
        return Check(name=name, status="fail", detail=problem[0], remedy=problem[1], node=node)
    detail = f"{_versions(facts)} for CUDA {facts['cuda']}, {gpus} x {facts['devices'][0]['name']}"
    module = next((m for m in modules if m.startswith(("cuda/", "stockcuda/"))), None)
    if module and module.split("/")[1].split(".")[0] != facts["cuda"].split(".")[0]:
        remedy = "use a torch build for that CUDA if you compile extensions"
        return Check(name=name, status="warn", detail=f"{detail}; the module is {module}", remedy=remedy, node=node)
    return Check(name=name, status="pass", detail=detail, node=node)


def _versions(facts: dict[str, Any]) -> str:
    return f"driver {facts['driver'] or 'none'}, torch {facts['torch']}"


def _unusable(facts: dict[str, Any]) -> tuple[str, str] | None:
    """Return what keeps torch from computing at all, and its remedy; None if nothing does."""
    if facts["problem"]:
        return facts["problem"], "run `python -c 'import torch; torch.cuda.init()'` on this node"
    versions = _versions(facts)
    if facts["cuda"] is None:
        return f"{versions} is built without CUDA", "install a CUDA build of torch on this node"
    if not facts["available"]:
        supported = _version(facts["driver_cuda"])
        if supported and float(supported) >= float(facts["cuda"]):
            remedy = "see nvidia-smi, CUDA_VISIBLE_DEVICES and the container's devices"
        else:
            remedy = (
                f"install a torch build for CUDA {supported}, or update the driver"
                if supported
                else "install the NVIDIA driver"
            )
        return (
            f"{versions} for CUDA {facts['cuda']} finds no GPU; the driver supports CUDA {supported or 'none'}",
            remedy,
        )
    broken = [d for d in facts["devices"] if d.get("problem") or not d.get("right")]
    if broken:
        what = "; ".join(f"{d['name']}: {d.get('problem', 'wrong product')}" for d in broken)
        return f"{versions}: {what}", "reset or exclude that GPU, or install a torch build for it"
    return None


def _not_as_asked(devices: list[dict[str, Any]], gpus: int, kind: str | None) -> tuple[str, str] | None:
    """Return how working GPUs differ from the request, and the remedy; None if they do not."""
    if len(devices) != gpus:
        return f"torch sees {len(devices)} GPUs, Ray reserved {gpus}", "start Ray with the node's real GPUs"
    if kind and any(kind.lower() not in d["name"].lower() for d in devices):
        return f"{devices[0]['name']} where {kind} was asked for", "correct the GPU kind, or the node's label"
    busy = [
        f"GPU {i}: {d['free'] / 1e9:.0f} of {d['total'] / 1e9:.0f} GB free" for i, d in enumerate(devices) if _busy(d)
    ]
    if busy:
        return "; ".join(busy), "end the processes outside Ray that use its memory (nvidia-smi shows them)"
    return None


def _busy(device: dict[str, Any]) -> bool:
    return bool(device["free"] < 0.9 * device["total"])


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""
