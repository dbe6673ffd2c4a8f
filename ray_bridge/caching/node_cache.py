"""Results that do not depend on the bridge, computed once per node and shared by evaluations, trials and phases."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save
from torch import Tensor

from bridge_common.errors import UserError
from bridge_common.files import read_jsonl, write_bytes, write_jsonl
from ray_bridge.config.fingerprint import digest
from ray_bridge.distributed import Worker

Record = dict[str, Any]


class NodeCache:
    """A folder of finished results, keyed by everything they were computed from.

    Files are complete when they get their final name, so concurrent trials may share a folder; at worst, two of them
    compute the same result. A file that a crash or a full disk has damaged is computed and written again.

    Args:
        folder: the folder; None stores nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def records(
        self, name: str, identity: Any, count: int, worker: Worker, compute: Callable[[], list[Record]]
    ) -> list[Record]:
        """Return the records computed from `identity`: read from their file, or computed by all workers together.

        Args:
            name: readable part of the file's name.
            identity: everything the records depend on, in a form with a stable digest.
            count: how many records there are; a file with another number of them is not used.
            worker: rank 0 reads and writes the file; all workers compute, or none does.
            compute: computes the records; called on every worker or on none.
        """
        if self.folder is None:
            return compute()
        path = self.folder / f"{name}-{digest(identity, 32)}.jsonl"
        stored = worker.gather(_stored(path, count) if worker.first else None)[0]
        if stored is not None:
            return stored  # type: ignore[return-value]
        records = compute()
        if worker.first:
            write_jsonl(path, records)
        return records

    def tensors(
        self, name: str, identity: Any, worker: Worker, compute: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Return the tensors computed from `identity`, the same bits on every worker: read, or computed by rank 0.

        Args:
            name: readable part of the file's name.
            identity: everything the tensors depend on, in a form with a stable digest.
            worker: rank 0 reads, computes and writes.
            compute: computes the tensors; called on rank 0 only.

        Returns:
            The tensors, on the CPU.
        """
        if self.folder is None:
            data = save(_on_cpu(compute())) if worker.first else b""
            return load(worker.gather(data)[0])
        path = self.folder / f"{name}-{digest(identity, 32)}.safetensors"
        if worker.first and not _is_whole(path):
            write_bytes(path, save(_on_cpu(compute())))
        worker.barrier()
        return load_file(path)


def _stored(path: Path, count: int) -> list[Record] | None:
    """Return the records of a file, or None if there is no such file or it is damaged."""
    try:
        records = read_jsonl(path)
    except (FileNotFoundError, UserError):
        return None
    return records if len(records) == count else None


def _is_whole(path: Path) -> bool:
    """Return whether a file of tensors exists and has the length that its header says."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (FileNotFoundError, SafetensorError):
        return False


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
