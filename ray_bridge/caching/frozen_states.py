"""What a frozen model makes of a job's fixed examples, computed once a node and kept in files that trials share.

A frozen model's states of a training example never change, so a step need not run it. States are computed in fixed
chunks of neighbouring examples, never in the step's batch: what a file holds depends on the model and the examples
alone, and any trial, worker or resumed job that finds or makes it sees the same numbers. Which states those are, and
how they are computed, is for a subclass to say: `SourceStates`, `TeacherStates`.
"""

import hashlib
import os
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
from ray_bridge.inputs.encoding import Encoded
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.task import Example

CHUNK = 16
"""Examples that are read together."""
LIMIT = 32 * 1024**3
"""Bytes that the files of all models and examples on a node may take; the oldest give way.

A token takes 8 KiB in the bf16 of Llama-3.1-8B or Mistral-7B. A run on GSM8K keeps its 7,265 training answers of about
105 tokens as the teacher's states, 6 GiB, and their questions of about 65 as the source's, 4 GiB.
"""
_OPEN = 64
_UNWRITTEN = 4
"""Chunks that wait for the disk."""


@dataclass(frozen=True, kw_only=True)
class Extract:
    """What is kept of an example: the states at positions `begin` to `end` (exclusive) of a text of token ids.

    States never look ahead, but ids behind `end` may belong to `ids` all the same: then they tell examples apart.
    """

    ids: tuple[int, ...]
    begin: int
    end: int


class FrozenStates(ABC):
    """One frozen model's states of a list of examples.

    Files appear whole under their final name, so concurrent trials may share a folder: the worst that happens is that
    two of them compute the same chunk. A file that is deleted while it is mapped stays readable.

    Args:
        lm: the frozen model.
        encode: examples to their tokens.
        examples: whose states are asked for.
        identity: what the states depend on besides dtype and ids: the model's digest, and which of its states.
        folder: where files are kept, in a folder of their own; None keeps the newest chunks in memory alone.
        limit: bytes that all files of the folder may take.
    """

    kind: ClassVar[str]
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
        self.place = {example.id: i for i, example in enumerate(examples)}
        self._chunks: OrderedDict[int, Sequence[Tensor]] = OrderedDict()
        self._outlines: dict[int, _Outline] = {}

    @abstractmethod
    def extract(self, item: Encoded) -> Extract:
        """Which states of an example are kept."""

    @abstractmethod
    def read(self, items: Sequence[Encoded]) -> Tensor:
        """Run the model on examples and give the states that are kept, one example after another, (tokens, d)."""

    def rows(self, items: Sequence[Encoded]) -> list[Tensor] | None:
        """Each item's states on the host, (tokens, d); None where one is not of the examples as they were encoded."""
        rows = []
        for item in items:
            if item.example.id not in self.place:
                return None
            number, at = divmod(self.place[item.example.id], CHUNK)
            if self._outline(number).keys[at] != _key(self.extract(item)):
                return None
            rows.append(self._chunk(number)[at])
        return rows

    def prepare(self, worker: Worker) -> None:
        """Read all examples before they are asked for, each worker its share; without a folder they are read late."""
        if self.folder is None:
            return
        mine = {}
        with ThreadPoolExecutor(1, thread_name_prefix="frozen states") as disk:
            writes: deque[Future[None]] = deque()
            for number in worker.share(-(-len(self.examples) // CHUNK)):
                outline = mine[number] = self._outline(number)
                if self._load(outline) is None:  # the model reads on while the disk writes
                    writes.append(disk.submit(self._write, outline, self._made(number)))
                if len(writes) > _UNWRITTEN:
                    writes.popleft().result()
            for write in writes:
                write.result()
        for outlines in worker.gather(mine):  # so that no worker encodes the others' examples to find their files
            self._outlines.update(outlines)  # type: ignore[call-overload]

    def _outline(self, number: int) -> "_Outline":
        if number not in self._outlines:
            extracts = [self.extract(item) for item in self._items(number)]
            keys, lengths = [_key(extract) for extract in extracts], [e.end - e.begin for e in extracts]
            # A GPU rounds differently than a CPU, and fused layers than plain ones.
            way = [self.lm.device.type, self.lm.body is not None, str(self.lm.dtype)]
            name = f"{self.kind}-{digest([self.identity, way, keys], 32)}.bin"
            self._outlines[number] = _Outline(name=name, keys=keys, lengths=lengths)
        return self._outlines[number]

    def _items(self, number: int) -> Sequence[Encoded]:
        return self.encode(self.examples[number * CHUNK : (number + 1) * CHUNK])

    def _chunk(self, number: int) -> Sequence[Tensor]:
        if number in self._chunks:
            self._chunks.move_to_end(number)
            return self._chunks[number]
        outline = self._outline(number)
        flat = self._load(outline)
        if flat is None:
            flat = self._made(number)  # (tokens, d)
            if self.folder is not None:
                self._write(outline, flat)
                found = self._load(outline)
                flat = flat if found is None else found  # the file's memory is the system's to take back
        self._chunks[number] = flat.split(outline.lengths)
        if len(self._chunks) > _OPEN:
            self._chunks.popitem(last=False)
        return self._chunks[number]

    def _made(self, number: int) -> Tensor:
        return self.read(self._items(number)).to(self.lm.dtype).cpu()  # (tokens, d)

    def _write(self, outline: "_Outline", flat: Tensor) -> None:
        assert self.folder is not None
        data = flat.contiguous().view(torch.uint8).numpy().data
        write_bytes(self.folder / outline.name, data, durable=False)
        self._make_room()

    def _load(self, outline: "_Outline") -> Tensor | None:
        if self.folder is None:
            return None
        try:
            raw = np.memmap(self.folder / outline.name, dtype=np.uint8, mode="c")
        except (FileNotFoundError, ValueError):  # not there yet, gone again, or empty
            return None
        if raw.size != sum(outline.lengths) * self.lm.hidden_size * self.lm.dtype.itemsize:
            return None  # cut short when the machine died
        return torch.from_numpy(raw).view(self.lm.dtype).view(sum(outline.lengths), -1)  # (tokens, d)

    def _make_room(self) -> None:
        assert self.folder is not None
        files = []
        for entry in os.scandir(self.folder):
            try:
                files.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
            except FileNotFoundError:  # another trial made room meanwhile
                continue
        excess = sum(size for _, size, _ in files) - self.limit
        for _, size, path in sorted(files)[:-1]:
            if excess <= 0:
                return
            Path(path).unlink(missing_ok=True)
            excess -= size


@dataclass(frozen=True, kw_only=True)
class _Outline:
    """A chunk without its states: its file's name, and each example's key and number of tokens."""

    name: str
    keys: Sequence[str]
    lengths: list[int]


def _key(extract: Extract) -> str:
    content = hashlib.blake2b(np.asarray([extract.begin, extract.end, *extract.ids], "<i8").tobytes(), digest_size=16)
    return content.hexdigest()
