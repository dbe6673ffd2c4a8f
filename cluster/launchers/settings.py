"""What the three launchers are rendered from, so that they cannot drift apart."""

import shlex
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cluster.preflight.check import MODULES

RAY_VERSION = "2.60.0"
# Ray gives 10002 to 19999 to its worker processes; a GCS there can find its port taken.
WORKER_PORTS = range(10002, 20000)

Count = Annotated[int, Field(ge=1)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class LaunchSettings(BaseModel):
    """One run and the machine it wants. The defaults are the plan's: phase 1 on four H100 of one node."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phase: Word = Field("phase1", description="phase to run")
    arguments: tuple[str, ...] = Field(("--preset", "paper"), description="arguments of the phase")
    name: Word = Field("ablate", description="name of the job")
    gpus: Count = Field(4, description="GPUs, on one node")
    gpu_kind: Word = Field("h100", description="kind of GPU, as the scheduler calls it")
    cpus: Count = Field(32, description="CPUs on that node")
    memory_gb: Count = Field(256, description="memory on that node")
    hours: Count = Field(8, description="time limit; a job that is cut off goes on when it is submitted again")
    modules: tuple[str, ...] = Field(MODULES, description="environment modules to load, where there are modules")
    project: str | None = Field(None, description="the checkout on the cluster; where sbatch is called by default")
    environment: str | None = Field(".venv", description="virtual environment in the checkout; none for an image")
    storage: str = Field("runs", description="folder of the campaigns, on a file system that all nodes mount")
    variables: dict[str, str] = Field(default_factory=dict, description="environment variables of the run")
    auth_mode: Literal["token", "disabled"] = Field("token", description="Ray's authentication, set on every node")
    gcs_port: int = Field(6379, ge=1024, le=65535, description="port of Ray's head, outside 10002 to 19999")

    partition: Word | None = Field(None, description="Slurm: partition")
    account: Word | None = Field(None, description="Slurm: account")

    image: str = Field("ray-bridge:0.1.0", description="Kubernetes: image with this project installed")
    namespace: Word = Field("default", description="Kubernetes: namespace")
    claim: Word = Field("ablate-runs", description="Kubernetes: ReadWriteMany volume claim of the storage")
    gpu_product: str = Field("NVIDIA-H100-80GB-HBM3", description="Kubernetes: node label nvidia.com/gpu.product")

    head: Word = Field("gpu-node-1", description="ray up: host name or address of the head, which has the GPUs")
    workers: tuple[Word, ...] = Field((), description="ray up: further hosts")
    ssh_user: Word = Field("ray", description="ray up: user that logs in")

    @field_validator("gcs_port")
    @classmethod
    def _outside_worker_ports(cls, port: int) -> int:
        if port in WORKER_PORTS:
            raise ValueError("ports 10002 to 19999 belong to Ray's workers; use another, such as 6379")
        return port

    @field_validator("arguments", "modules", "workers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(shlex.split(value)) if isinstance(value, str) else value

    def command(self, storage: str | None = None) -> list[str]:
        """The phase's command line, with its storage unless the arguments name one."""
        named = any(part == "--storage" or part.startswith("--storage=") for part in self.arguments)
        place = [] if named else ["--storage", storage or self.storage]
        return ["python", "-m", "cluster", self.phase, *self.arguments, *place]
