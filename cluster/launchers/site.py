"""What a site is like: its modules, scheduler names, images and hosts. A profile is a site's settings under a name."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from bridge_common.errors import UserError
from bridge_common.paths import LONGEST_PATH, text_problem
from bridge_common.user_files import read_text
from bridge_common.version import VERSION
from ray_bridge.config.validation import Frozen, build

# Ray gives 10002 to 19999 to its worker processes; a head there can find its port taken.
WORKER_PORTS = range(10002, 20000)

Count = Annotated[int, Field(ge=1, le=1_000_000)]


def _matching(pattern: str, words: str) -> AfterValidator:
    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"use {words}")
        return text

    return AfterValidator(check)


def _on_one_line(text: str) -> str:
    if problem := text_problem(text, LONGEST_PATH):
        raise ValueError(problem)
    return text


Text = Annotated[str, AfterValidator(_on_one_line)]
Word = Annotated[
    str, _matching(r"[A-Za-z0-9][A-Za-z0-9._-]*", "one word of letters, digits, dots, dashes, underscores")
]
DnsName = Annotated[
    str, _matching(r"[a-z0-9]([a-z0-9-]{0,45}[a-z0-9])?", "at most 47 lower-case letters, digits and inner dashes")
]


class Site(Frozen):
    """Settings of a site. Everything that is not said here is left to the site's own defaults."""

    modules: tuple[Text, ...] = Field((), description="environment modules to load on every node")
    project: Text | None = Field(None, description="the checkout on the cluster; where sbatch is called by default")
    environment: Text | None = Field(".venv", description="virtual environment in the checkout; none for none")
    storage: Text = Field("runs", description="folder of the campaigns, on a file system that all nodes mount")
    auth_mode: Literal["token", "disabled"] = Field("token", description="Ray's authentication, set on every node")
    cpus: Count | None = Field(None, description="CPUs of a node; 8 a GPU, or what the phase needs, by default")
    memory_gb: Count | None = Field(None, description="memory of a node in GiB; 64 a GPU, at least 8, by default")
    hours: Count = Field(8, description="time limit")

    partition: Word | None = Field(None, description="Slurm: partition")
    account: Word | None = Field(None, description="Slurm: account")
    gpu_type: Word | None = Field(None, description="Slurm: type of GPU in --gres, such as h100; any by default")
    requeues: int = Field(3, ge=0, description="Slurm: times that a job which reached its time limit is queued again")

    image: Text = Field(f"ray-bridge:{VERSION}", description="Kubernetes: image with this project installed")
    namespace: DnsName = Field("default", description="Kubernetes: namespace")
    claim: DnsName = Field("ablate-runs", description="Kubernetes: ReadWriteMany volume claim of the storage")
    gpu_product: Word | None = Field(None, description="Kubernetes: node label nvidia.com/gpu.product; any by default")

    hosts: tuple[Word, ...] = Field((), description="ray up: hosts, the head first")
    ssh_user: Word = Field("ray", description="ray up: user that logs in")
    gcs_port: int = Field(6379, ge=1024, le=65535, description="ray up: port of the head, outside 10002 to 19999")

    @field_validator("gcs_port")
    @classmethod
    def _outside_worker_ports(cls, port: int) -> int:
        if port in WORKER_PORTS:
            raise ValueError("ports 10002 to 19999 belong to Ray's workers; use another, such as 6379")
        return port

    @field_validator("modules", "hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


PROFILES: dict[str, dict[str, Any]] = {
    "hpc": {
        "modules": ("gcc/13.1.0", "conda/24.3.0-0", "stockcuda/12.6.2", "cudnn/cuda12/9.3.0.75"),
        "gpu_type": "h100",
        "gpu_product": "NVIDIA-H100-80GB-HBM3",
    }
}


def load_site(profile: str | None = None, changes: dict[str, Any] | None = None) -> Site:
    """Return the settings of a profile, with changes.

    Args:
        profile: a name in `PROFILES`, or a TOML file of `Site`'s fields; the defaults if None.
        changes: fields of `Site`; strings are read as the field's type.

    Raises:
        UserError: for an unknown profile or field, or an impossible value.
    """
    return build(Site, {**_read_profile(profile), **(changes or {})})


def _read_profile(profile: str | None) -> dict[str, Any]:
    if profile is None:
        return {}
    if profile in PROFILES:
        return PROFILES[profile]
    path = Path(profile).expanduser()
    if not path.is_file():
        raise UserError(f"no profile {profile}: use {', '.join(PROFILES)}, or the path of a TOML file")
    try:
        return tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"profile {path}: {error}") from error
