"""What does not depend on the bridge is decoded once and shared by evaluations, trials and phases."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load, load_file, save
from torch import Tensor

from bridge_common.files import read_jsonl, write_bytes, write_jsonl
from ray_bridge.config.fingerprint import digest
from ray_bridge.distributed import Worker

Row = dict[str, Any]


class NodeCache:
    """A folder of finished row lists, keyed by what they were made from.

    Files appear whole under their final name, so concurrent trials may share a folder: the worst that happens is that
    two of them compute the same rows.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def rows(self, kind: str, identity: Any, worker: Worker, compute: Callable[[], list[Row]]) -> list[Row]:
        """The rows made from `identity`: read where they are there, else computed by all workers together.

        Args:
            kind: readable part of the file's name.
            identity: everything the rows depend on, in a form with a stable digest.
            worker: rank 0 looks and writes; all workers take the same way.
            compute: makes the rows; called on every worker or on none.
        """
        if self.folder is None:
            return compute()
        path = self.folder / f"{kind}-{digest(identity, 32)}.jsonl"
        found = worker.gather(read_jsonl(path) if worker.first and path.is_file() else None)[0]
        if found is not None:
            return found  # type: ignore[return-value]
        rows = compute()
        if worker.first:
            write_jsonl(path, rows)
        return rows

    def tensors(
        self, kind: str, identity: Any, worker: Worker, compute: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Tensors made from `identity`, the same bits on every worker: read where they are there, else made by rank 0.

        Args:
            kind: readable part of the file's name.
            identity: everything the tensors depend on, in a form with a stable digest.
            worker: rank 0 looks, makes and writes.
            compute: makes the tensors; called on rank 0 alone.

        Returns:
            The tensors, on the CPU.
        """
        if self.folder is None:
            made = save(_plain(compute())) if worker.first else b""
            return load(worker.gather(made)[0])
        path = self.folder / f"{kind}-{digest(identity, 32)}.safetensors"
        if worker.first and not path.is_file():
            write_bytes(path, save(_plain(compute())))
        worker.barrier()
        return load_file(path)


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
