"""Facts about a node, gathered by one task on that node.

The module is sent by value and uses the standard library alone, so that it also runs on a node without this project.
"""

import http.client
import importlib.util
import json
import math
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "ray")


def node_facts(request: dict[str, Any]) -> dict[str, Any]:
    """Return the facts that the checks of a node need; nothing here decides.

    Args:
        request: `storage` (absolute folder), `token` (file that the driver wrote below it, or None), `models`, `data`
            (folder or None), `dataset` (hub name or None), `gpus` (whether GPUs are needed), `timeout_s`.
    """
    timeout_s = request["timeout_s"]
    return {
        "python": platform.python_version(),
        "packages": {name: _installed(name) for name in PACKAGES},
        "code": importlib.util.find_spec("ray_bridge") is not None,
        "modules": modules_facts(),
        "disk": {"storage": _space(request["storage"]), "temporary": _space(tempfile.gettempdir())},
        "memory": memory_bytes(),
        "gpu_memory": gpu_bytes(timeout_s / 4) if request["gpus"] else [],
        "shared": _shared(request["token"], timeout_s / 4),
        "models": {name: _model(name, timeout_s / 4) for name in request["models"]},
        "data": _data(request["data"], request["dataset"], timeout_s / 4),
    }


def modules_facts() -> dict[str, Any]:
    """Return whether there is a module system, and what this process has loaded (LOADEDMODULES, or `module list`)."""
    function = any(name.startswith("BASH_FUNC_module") for name in os.environ)
    system = function or any(
        os.environ.get(name) for name in ("MODULESHOME", "LMOD_CMD", "MODULEPATH", "LOADEDMODULES")
    )
    loaded = [name for name in os.environ.get("LOADEDMODULES", "").split(":") if name]
    if not loaded and function:
        try:
            listed = subprocess.run(
                ["bash", "-c", "module -t list 2>&1"], capture_output=True, text=True, timeout=10, check=False
            )
            lines = [line.strip() for line in listed.stdout.splitlines()]
            loaded = [line for line in lines if line and " " not in line and not line.endswith(":")]
        except (OSError, subprocess.TimeoutExpired):
            pass
    return {"system": system, "loaded": loaded}


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _space(folder: str) -> dict[str, Any]:
    """Return free and total bytes of the disk that holds a folder, or would hold it."""
    path = Path(folder)
    while not path.exists() and path != path.parent:
        path = path.parent
    usage = shutil.disk_usage(path)
    return {"free": usage.free, "total": usage.total, "writable": os.access(path, os.W_OK), "on": str(path)}


def _shared(token: str | None, timeout_s: float) -> str:
    """Return `yes` if the driver's file is here with its content. File servers show new files some seconds late."""
    if token is None:
        return "not written"
    path, deadline = Path(token), time.monotonic() + min(timeout_s, 10)
    while time.monotonic() < deadline:
        try:
            if path.read_text() != path.name:
                return "another content"
            answer = path.with_name(f"{path.name}.{os.getpid()}")
            answer.write_text(path.name)
            answer.unlink()
            return "yes"
        except FileNotFoundError:
            os.sched_yield()
            time.sleep(0.2)
        except OSError as error:
            return f"{type(error).__name__}: {error}"
    return "no"


def _model(name: str, timeout_s: float) -> dict[str, Any]:
    """Return where a model is (in the package, in a folder, in this node's cache, on the hub) and its parameters."""
    name = name.removeprefix("random:")  # its configuration and tokenizer are those of the checkpoint
    if name.startswith("embedded:"):
        package = importlib.util.find_spec("ray_bridge")
        places = package.submodule_search_locations if package else None
        folder = Path(places[0]) / "embedded_pair" / name.removeprefix("embedded:") if places else None
        if folder is None:
            return {"where": "package", "missing": "the package"}
        return {"where": "package", "missing": _missing(folder), "parameters": _parameters(folder)}
    path = Path(name).expanduser()
    if path.is_dir() or path.is_absolute() or name.startswith((".", "~")):
        return {"where": "folder", "missing": _missing(path), "parameters": _parameters(path)}
    for folder in _snapshots(f"models--{name.replace('/', '--')}"):
        if (folder / "config.json").exists():
            return {"where": "cache", "parameters": _parameters(folder)}
    return {"where": "hub", **_hub(f"{name}/resolve/main/config.json", timeout_s)}


def _missing(folder: Path) -> str:
    """Return what a checkpoint's folder lacks; empty if nothing."""
    if not (folder / "config.json").is_file():
        return f"{folder}/config.json"
    if not any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin")):
        return f"weights in {folder}"
    return ""


def _parameters(folder: Path) -> int | None:
    """Return the number of a checkpoint's parameters, by the headers of its files; None for another format."""
    count, files = 0, list(folder.glob("*.safetensors"))
    for path in files:
        try:
            with path.open("rb") as file:
                size = min(struct.unpack("<Q", file.read(8))[0], path.stat().st_size)  # a damaged one may be any number
                header = json.loads(file.read(size))
            count += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
        except (OSError, ValueError, RecursionError, AttributeError, LookupError, TypeError, struct.error):
            return None
    return count if files else None


def memory_bytes() -> dict[str, int]:
    """Return the bytes of memory that this node, or the container, has available."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        usage = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no control groups, or no limit in them
        return {"available": available}
    reclaimable = int(usage.get("inactive_file", 0))  # file contents that are kept while nothing else needs the memory
    return {"available": min(available, limit - used + reclaimable)}


def gpu_bytes(timeout_s: float) -> list[int]:
    """Return the total bytes of each GPU; empty if nvidia-smi does not report them."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        return [int(line) * 2**20 for line in done.stdout.splitlines() if line.strip()]
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []


def _snapshots(entry: str) -> list[Path]:
    home = os.environ.get("HF_HOME", os.path.expanduser("~/.cache/huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", os.path.join(home, "hub")))
    return list((hub / entry / "snapshots").glob("*"))


def _data(folder: str | None, dataset: str | None, timeout_s: float) -> dict[str, Any]:
    if folder is not None:
        lacking = [split for split in ("train.jsonl", "test.jsonl") if not (Path(folder) / split).is_file()]
        others = (path.suffix in (".parquet", ".csv", ".arrow") for path in Path(folder).rglob("*"))
        complete = not lacking or (len(lacking) == 2 and any(others))
        return {"where": "folder", "missing": "" if complete else ", ".join(lacking)}
    if dataset is None:
        return {"where": "package", "missing": ""}
    home = os.environ.get("HF_HOME", os.path.expanduser("~/.cache/huggingface"))
    cache = Path(os.environ.get("HF_DATASETS_CACHE", os.path.join(home, "datasets"))) / dataset.replace("/", "___")
    if cache.is_dir() or _snapshots(f"datasets--{dataset.replace('/', '--')}"):
        return {"where": "cache"}
    return {"where": "hub", **_hub(f"datasets/{dataset}/resolve/main/README.md", timeout_s)}


def _hub(path: str, timeout_s: float) -> dict[str, Any]:
    """Return the hub's status code for a file; 0 if nothing answers."""
    if any(os.environ.get(name, "") not in ("", "0") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")):
        return {"code": 0, "problem": "HF_HUB_OFFLINE is set"}
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    token = os.environ.get("HF_TOKEN", "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{endpoint}/{path}", method="HEAD", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return {"code": answer.status, "problem": ""}
    except urllib.error.HTTPError as error:
        return {"code": error.code, "problem": str(error)}
    except http.client.HTTPException:
        return {"code": 0, "problem": f"{endpoint}: what answers there does not speak HTTP"}
    except OSError as error:
        return {"code": 0, "problem": f"{endpoint}: {getattr(error, 'reason', error)}"}


def python_facts() -> dict[str, Any]:
    """Return the versions of Python and of the packages that driver and nodes must share."""
    return {
        "python": platform.python_version(),
        "packages": {name: _installed(name) for name in PACKAGES},
        "prefix": sys.prefix,
    }
