"""Source states of a job's fixed prompts, read once a node and kept in memory-mapped files that trials share.

The source is frozen, so what it makes of a training prompt never changes. States are computed in fixed chunks of
neighbouring examples, never in the step's batch: what a file holds depends on the models and the examples alone, and
any trial, worker or resumed job that finds or makes it sees the same numbers.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.files import write_bytes
from ray_bridge.encoding import Encoded, SourceBatch, read_source
from ray_bridge.fingerprint import digest
from ray_bridge.lm import FrozenLM
from ray_bridge.tasks.base import Example
from ray_bridge.workers import Worker

CHUNK = 16
"""Examples that are read together."""
LIMIT = 32 * 1024**3
"""Bytes that the files of all prompts on a node may take; the oldest give way."""
_OPEN = 64


class SourceStates:
    """One layer's states of a list of examples.

    Files appear whole under their final name, so concurrent trials may share a folder: the worst that happens is that
    two of them compute the same chunk. A file that is deleted while it is mapped stays readable.

    Args:
        source: the frozen source.
        encode: examples to their tokens.
        examples: whose states are asked for.
        layer: which hidden state.
        identity: what the states depend on besides the prompts' ids: the model's digest and dtype.
        folder: where files are kept; None keeps the newest chunks in memory alone.
    """

    def __init__(
        self,
        source: FrozenLM,
        encode: Callable[[Sequence[Example]], Sequence[Encoded]],
        examples: Sequence[Example],
        layer: int,
        identity: Any,
        folder: Path | None,
        *,
        limit: int = LIMIT,
    ) -> None:
        self.source, self.encode, self.examples, self.layer = source, encode, examples, layer
        self.identity, self.limit = identity, limit
        self.folder = None if folder is None else folder / "source_states"
        self.place = {example.id: i for i, example in enumerate(examples)}
        self.chunks: OrderedDict[int, Sequence[Tensor]] = OrderedDict()

    def __call__(self, items: Sequence[Encoded]) -> SourceBatch:
        """As `read_source`: states of the questions' tokens, and their mask."""
        if any(item.example.id not in self.place for item in items):
            return read_source(self.source, items, self.layer)
        rows = []
        for item in items:
            chunk, at = divmod(self.place[item.example.id], CHUNK)
            rows.append(self._chunk(chunk)[at])
        S = max(len(row) for row in rows)
        device = self.source.device
        states = torch.zeros(len(rows), S, rows[0].shape[1], dtype=rows[0].dtype)  # (B, S, d_s)
        mask = torch.zeros(len(rows), S, dtype=torch.long)  # (B, S)
        for i, row in enumerate(rows):
            states[i, : len(row)], mask[i, : len(row)] = row, 1
        states = states.to(device)
        return SourceBatch(
            states=states.to(torch.promote_types(states.dtype, torch.float32)), mask=mask.to(device), items=items
        )

    def prepare(self, worker: Worker) -> None:
        """Read all examples before they are asked for, each worker its share; without a folder they are read late."""
        if self.folder is None:
            return
        for number in worker.share(-(-len(self.examples) // CHUNK)):
            self._chunk(number)
        worker.barrier()

    def _chunk(self, number: int) -> Sequence[Tensor]:
        if number in self.chunks:
            self.chunks.move_to_end(number)
            return self.chunks[number]
        items = self.encode(self.examples[number * CHUNK : (number + 1) * CHUNK])
        lengths = [end - begin for begin, end in (item.question_span for item in items)]
        path = self._path(items)
        flat = None if path is None else _read(path, self.source.dtype, self.source.hidden_size)
        if flat is None:
            batch = read_source(self.source, items, self.layer)
            flat = batch.states[batch.mask.bool()].to(self.source.dtype).cpu()  # (tokens, d_s)
            if path is not None:
                write_bytes(path, flat.contiguous().view(torch.uint8).numpy().tobytes())
                self._make_room()
        self.chunks[number] = flat.split(lengths)
        if len(self.chunks) > _OPEN:
            self.chunks.popitem(last=False)
        return self.chunks[number]

    def _path(self, items: Sequence[Encoded]) -> Path | None:
        if self.folder is None:
            return None
        prompts = [[list(item.source_ids), list(item.question_span)] for item in items]
        name = digest([self.identity, str(self.source.dtype), self.layer, prompts], 32)
        return self.folder / f"{name}.bin"

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


def _read(path: Path, dtype: torch.dtype, width: int) -> Tensor | None:
    try:
        raw = np.memmap(path, dtype=np.uint8, mode="c")
    except (FileNotFoundError, ValueError):  # not there yet, or gone again
        return None
    return torch.from_numpy(raw).view(dtype).view(-1, width)  # (tokens, d_s)
