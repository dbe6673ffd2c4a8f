"""constraints-cuda.txt has the versions of constraints.txt, but for torch and the libraries of its CUDA build."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)$")


def pins(name: str) -> dict[str, str]:
    """Return the pinned version of each package; every line is a comment or a pin, and no package comes twice."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    found = [PIN.match(line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if match is None]
    named = [(canonicalize_name(match[1]), match[2]) for match in found if match is not None]
    assert len(dict(named)) == len(named)
    return dict(named)


def test_the_pins_agree_apart_from_torch() -> None:
    cpu, cuda = pins("constraints.txt"), pins("constraints-cuda.txt")
    of_cuda = {name for name in cuda if name.startswith(("nvidia-", "cuda-")) or name == "triton"}
    assert {"nvidia-nccl-cu13", "triton"} <= of_cuda
    assert {name: version for name, version in cuda.items() if name not in of_cuda | {"torch"}} == {
        name: version for name, version in cpu.items() if name != "torch"
    }


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-cuda.txt"])
def test_the_pins_are_versions_that_the_project_allows(name: str) -> None:
    pinned = pins(name)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        version = pinned.get(canonicalize_name(requirement.name))
        if canonicalize_name(requirement.name) != "ray-bridge" and version is not None:
            assert requirement.specifier.contains(Version(version), prereleases=True), f"{requirement} and {version}"
    assert all(canonicalize_name(Requirement(text).name) in pinned for text in project["dependencies"])


@pytest.mark.slow
def test_the_cuda_pins_of_torch_are_those_of_its_metadata() -> None:
    """The index answers without the wheels themselves; where there is no index, nothing can be resolved."""
    cuda = pins("constraints-cuda.txt")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dry-run", f"triton=={cuda['triton']}"]
    if (
        "--dry-run"
        not in subprocess.run(
            [sys.executable, "-m", "pip", "download", "--help"], capture_output=True, text=True, check=True
        ).stdout
    ):
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", f"triton=={cuda['triton']}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if "No matching distribution" not in done.stderr and done.returncode:
        pytest.skip(f"no package index answers: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
