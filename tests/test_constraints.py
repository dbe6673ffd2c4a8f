"""constraints-cuda.txt has the versions of constraints.txt, but for torch and the libraries of its CUDA build."""

import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "tests" / "data" / "torch-cuda-requirements.json"
BUILD_TOOLS = {"setuptools", "pip", "wheel"}  # never pinned: an environment comes with them
LINUX = {"platform_system": "Linux", "sys_platform": "linux", "platform_machine": "x86_64", "os_name": "posix"}
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


def test_the_pins_install_on_the_first_python_that_the_project_allows() -> None:
    """Debian 12 has Python 3.11.2, for which pip passes over a release that asks for 3.11.5."""
    # Asked of json, for importlib_metadata, which answers here once MLflow has imported it, raises for a missing key.
    found = {name: metadata.metadata(name).json for name in pins("constraints.txt") if here(name)}
    python = {name: str(fields.get("requires_python", "")) for name, fields in found.items()}
    assert len(python) > 100
    assert {name: asks for name, asks in python.items() if not SpecifierSet(asks).contains("3.11.0")} == {}


def here(name: str) -> bool:
    """Return whether a package is installed here."""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def required(name: str, extras: frozenset[str], requirements: list[str]) -> list[Requirement]:
    """Return what a package requires on Linux with some of its extras."""
    environments = [{**LINUX, "extra": extra} for extra in ("", *extras)]
    found = [Requirement(text) for text in requirements]
    return [r for r in found if r.marker is None or any(r.marker.evaluate(each) for each in environments)]


def test_the_cuda_pins_fit_each_other() -> None:
    """Walk from the project's dependencies through everything that they require: each is pinned at a version that fits.

    What is not installed here, torch's CUDA build with its libraries, is read from a report of pip:
    `pip install --dry-run --ignore-installed --report FILE -c constraints-cuda.txt torch`.
    """
    pinned, of_cuda = pins("constraints-cuda.txt"), json.loads(REQUIREMENTS.read_text())
    assert {name: entry["version"] for name, entry in of_cuda.items()} == {
        name: version for name, version in pinned.items() if name in of_cuda or name.startswith(("nvidia-", "cuda-"))
    }, f"{REQUIREMENTS.name} is of other versions"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if name in BUILD_TOOLS:
            continue
        assert name in pinned, f"{requirement} is not pinned"
        assert requirement.specifier.contains(Version(pinned[name]), prereleases=True), f"{requirement}, {pinned[name]}"
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        texts = of_cuda[name]["requires"] if name in of_cuda else metadata.requires(name) or []
        waiting += required(name, extras, texts)
    assert {name for name, _ in seen} >= set(of_cuda)


@pytest.mark.slow
def test_pip_resolves_the_cuda_pins(tmp_path: Path) -> None:
    """Only against an index that gives metadata apart from the wheels, which have 2 GB."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    try:
        asked = urllib.request.Request(f"{index}/torch/", headers={"Accept": "application/vnd.pypi.simple.v1+json"})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            listed = json.load(answer)["files"]
    except (OSError, ValueError, KeyError) as error:
        pytest.skip(f"no package index answers: {error}")
    wanted = f"torch-{pins('constraints-cuda.txt')['torch']}-"
    if not any(file.get("core-metadata") for file in listed if file["filename"].startswith(wanted)):
        pytest.skip(f"{index} gives no metadata without the wheels")
    newer = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path), "pip>=24.1"]
    subprocess.run(newer, check=True, timeout=60)  # earlier ones fetch the wheels all the same
    command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed"]
    done = subprocess.run(
        [*command, "-c", str(ROOT / "constraints-cuda.txt"), "torch", "-r", str(ROOT / "constraints-cuda.txt")],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
