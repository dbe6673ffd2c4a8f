"""A frozen model's states of a job's training examples, computed once per node and stored in files that trials share.

The states never change, so a training step need not run the model. They are computed in fixed chunks of consecutive
examples, never in the step's batch: a file depends on the model and the examples alone, so every trial, worker and
resumed job sees the same numbers. Subclasses define which states these are: `SourceStates`, `TeacherStates`.
"""

import hashlib
import os
import time
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from bridge_common.files import write_bytes
from ray_bridge.config.fingerprint import digest
from ray_bridge.distributed import Worker
from ray_bridge.gpu.transfer import fetch
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.task import Example

CHUNK = 16
"""Examples of one file, which the model reads in one batch."""
LIMIT = 32 * 1024**3
"""Bytes that the files of all models and examples on a node may take; the oldest are deleted.

A token takes 8 KiB in the bf16 of Llama-3.1-8B or Mistral-7B. A run on GSM8K stores the teacher's states of its 7,265
training answers of about 105 tokens, 6 GiB, and the source's of their questions of about 65 tokens, 4 GiB.
"""
_OPEN_CHUNKS = 64
"""Chunks that stay mapped, or in memory without a folder."""
WRITING_S = 3600.0
"""Age up to which a hidden file is what another process is writing, and later what a crash has left."""
_PENDING_WRITES = 4
"""Chunks that may wait for their copy to the host and for the disk."""


@dataclass(frozen=True, kw_only=True)
class Extract:
    """The states that are stored of an example: those at positions `begin` to `end` (exclusive) of its token ids.

    States do not depend on ids after them, but `ids` may hold those too, to tell examples apart.
    """

    ids: tuple[int, ...]
    begin: int
    end: int


class FrozenStates(ABC):
    """One frozen model's states of a list of examples.

    Files are complete when they get their final name, so concurrent trials may share a folder; at worst, two of them
    compute the same chunk. A file that is deleted while it is mapped stays readable.

    Args:
        lm: the frozen model.
        encode: encodes examples.
        examples: the examples whose states are stored.
        identity: what the states depend on besides dtype and ids: the model's digest, and which of its states.
        folder: parent of the folder of the files; None keeps the most recently used chunks in memory only.
        limit: bytes that all files of the folder may take.
    """

    name: ClassVar[str]
    """Readable part of the files' names."""

    def __init__(
        self,
        lm: FrozenLM,
        encode: Callable[[Sequence[Example]], Sequence[Encoded]],
        examples: Sequence[Example],
        identity: Any,
        folder: Path | None,
        *,
        limit: int = LIMIT,
    ) -> None:
        self.lm, self.encode, self.examples = lm, encode, examples
        self.identity, self.limit = identity, limit
        self.folder = None if folder is None else folder / "frozen_states"
        self.index = {example.id: i for i, example in enumerate(examples)}
        self._chunks: OrderedDict[int, Sequence[Tensor]] = OrderedDict()
        self._described: dict[int, _Chunk] = {}

    @abstractmethod
    def extract(self, item: Encoded) -> Extract:
        """Return which states of an example are stored."""

    @abstractmethod
    def compute(self, items: Sequence[Encoded]) -> Tensor:
        """Run the model on examples; return the states that are stored, one example after another, (tokens, d)."""

    def lookup(self, items: Sequence[Encoded]) -> list[Tensor] | None:
        """Return each item's states on the host, (tokens, d).

        None if any item is not one of the examples, or is encoded differently.
        """
        rows = []
        for item in items:
            if item.example.id not in self.index:
                return None
            number, at = divmod(self.index[item.example.id], CHUNK)
            if self._describe(number).keys[at] != _key(self.extract(item)):
                return None
            rows.append(self._states(number)[at])
        return rows

    def prepare(self, worker: Worker, on_chunk: Callable[[], None] = lambda: None) -> None:
        """Compute the states of all examples in advance, each worker its share; without a folder, do nothing.

        Args:
            worker: this process among its peers.
            on_chunk: called after each chunk of examples.
        """
        if self.folder is None:
            return
        mine = {}
        with ThreadPoolExecutor(1, thread_name_prefix="frozen states") as disk:
            writes: deque[Future[None]] = deque()
            for number in worker.share(-(-len(self.examples) // CHUNK)):
                chunk = mine[number] = self._describe(number)
                if self._load(chunk) is None:  # the model goes on while states are copied and written
                    states = self._compute(number)
                    if self._writes:
                        writes.append(disk.submit(self._write, chunk, fetch(states)))
                if len(writes) > _PENDING_WRITES:
                    writes.popleft().result()
                on_chunk()
            for write in writes:
                write.result()
        for described in worker.gather(mine):  # so that no worker encodes the others' examples to name their files
            self._described.update(described)  # type: ignore[call-overload]

    def _describe(self, number: int) -> "_Chunk":
        if number not in self._described:
            extracts = [self.extract(item) for item in self._items(number)]
            keys, lengths = [_key(extract) for extract in extracts], [e.end - e.begin for e in extracts]
            # A GPU rounds differently than a CPU, fused layers than transformers' own, and a sum of parts than a whole.
            arithmetic = [self.lm.device.type, self.lm.body is not None, str(self.lm.dtype)]
            arithmetic += [] if self.lm.shards is None else [self.lm.shards.size]
            name = f"{self.name}-{digest([self.identity, arithmetic, keys], 32)}.bin"
            self._described[number] = _Chunk(name=name, keys=keys, lengths=lengths)
        return self._described[number]

    def _items(self, number: int) -> Sequence[Encoded]:
        return self.encode(self.examples[number * CHUNK : (number + 1) * CHUNK])

    def _states(self, number: int) -> Sequence[Tensor]:
        if number in self._chunks:
            self._chunks.move_to_end(number)
            return self._chunks[number]
        chunk = self._describe(number)
        flat = self._load(chunk)
        if flat is None:
            flat = computed = self._compute(number).cpu()  # (tokens, d)
            if self.folder is not None:
                if self._writes:
                    self._write(chunk, lambda: computed)
                mapped = self._map(chunk)
                flat = flat if mapped is None else mapped  # the system can evict a mapped file's memory
        self._chunks[number] = flat.split(chunk.lengths)
        if len(self._chunks) > _OPEN_CHUNKS:
            self._chunks.popitem(last=False)
        return self._chunks[number]

    def _compute(self, number: int) -> Tensor:
        return self.compute(self._items(number)).to(self.lm.dtype).contiguous()  # (tokens, d)

    def _write(self, chunk: "_Chunk", states: Callable[[], Tensor]) -> None:
        assert self.folder is not None
        data = states().view(torch.uint8).numpy().data
        write_bytes(self.folder / chunk.name, data, durable=False)
        self._delete_oldest()

    @property
    def _writes(self) -> bool:
        """Whether this process writes what it computes: of those that hold a model's parts, the first does."""
        return self.lm.shards is None or self.lm.shards.rank == 0

    def _load(self, chunk: "_Chunk") -> Tensor | None:
        """Return a chunk's states; None if they have to be computed, on all processes that hold the model's parts."""
        flat = self._map(chunk)
        return flat if self.lm.agreed(flat is not None) else None

    def _map(self, chunk: "_Chunk") -> Tensor | None:
        if self.folder is None:
            return None
        try:
            raw = np.memmap(self.folder / chunk.name, dtype=np.uint8, mode="c")
        except (FileNotFoundError, ValueError):  # not written yet, deleted, or empty
            return None
        if raw.size != sum(chunk.lengths) * self.lm.hidden_size * self.lm.dtype.itemsize:
            return None  # truncated when the machine failed
        return torch.from_numpy(raw).view(self.lm.dtype).view(sum(chunk.lengths), -1)  # (tokens, d)

    def _delete_oldest(self) -> None:
        assert self.folder is not None
        files = []
        for entry in os.scandir(self.folder):
            try:
                found = entry.stat()
            except FileNotFoundError:  # another trial has deleted it meanwhile
                continue
            if not entry.name.startswith(".") or time.time() - found.st_mtime > WRITING_S:
                files.append((found.st_mtime_ns, found.st_size, entry.path))
        excess = sum(size for _, size, _ in files) - self.limit
        for _, size, path in sorted(files)[:-1]:
            if excess <= 0:
                return
            Path(path).unlink(missing_ok=True)
            excess -= size


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """A chunk's file name, and each of its examples' key and number of tokens."""

    name: str
    keys: Sequence[str]
    lengths: list[int]


def _key(extract: Extract) -> str:
    content = hashlib.blake2b(np.asarray([extract.begin, extract.end, *extract.ids], "<i8").tobytes(), digest_size=16)
    return content.hexdigest()
