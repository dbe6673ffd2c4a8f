"""From weight files to a device: each file read once a node, mapped instead of copied, carried by several threads.

transformers maps safetensors files into memory: on a CPU the parameters *are* the files' pages, which the processes of
a node share, and nothing is copied until a device asks for it (placing them on a device directly, its `device_map`,
needs accelerate). `Module.to` carries one page after another; `to_device` keeps several on their way.
"""

import pickle
import queue
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from bridge_common.errors import UserError
from ray_bridge.config.checkpoint_names import resolve

PIECE = 1 << 25
"""Bytes that are carried at once; every thread holds two such pieces in pinned memory."""
THREADS = 4
READ_AT_ONCE = 1 << 23
_SUFFIXES = (".safetensors", ".bin")
_BROKEN = (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError)


def load_model(place: str, name: str, *, revision: str | None, dtype: str) -> Any:
    """A causal LM on the CPU, its parameters mapped from safetensors files where those hold them in `dtype`.

    Args:
        place: folder or hub name.
        name: how the user named it.
        revision: of a hub name.
        dtype: name of a torch dtype; what is stored in another one is converted, and so copied.

    Raises:
        UserError: when files are absent or damaged, or do not hold the model that the config describes.
    """
    AutoModelForCausalLM = auto_classes()[0]
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            place,
            revision=revision,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except _BROKEN as error:
        raise UserError(f"cannot load the checkpoint {name}: {_first_line(error)}") from error
    other = {key: f"{key} is {list(stored)} instead of {list(own)}" for key, stored, own in found["mismatched_keys"]}
    for keys, what in (
        (set(found["missing_keys"]) - set(other), "its weight files lack"),
        (set(other.values()), "its weight files do not fit its config.json:"),
        (_of_known_layers(model, found["unexpected_keys"]), "its config.json says nothing of"),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise UserError(
                f"cannot load the checkpoint {name}: {what} {min(keys)}{more}; copy or save the whole checkpoint again"
            )
    if found["unexpected_keys"]:
        unused = sorted(found["unexpected_keys"])
        warnings.warn(f"{name}: {len(unused)} tensors are of no use here, as {unused[0]}", stacklevel=3)
    return model


def auto_classes() -> tuple[Any, Any]:
    """Transformers' AutoModelForCausalLM and AutoTokenizer, imported without what generation alone would ask for."""
    with _without("sklearn"):  # for one way of assisted generation; brings SciPy, a second for every worker
        from transformers import AutoModelForCausalLM, AutoTokenizer
    return AutoModelForCausalLM, AutoTokenizer


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model, in place; onto a GPU by several threads, each of which reads while its last piece is on its way.

    Parameters that modules share stay shared.
    """
    if device.type != "cuda":
        return model.to(device)
    device = torch.empty(0, device=device).device  # with its number, which other threads have no default for
    pieces: queue.SimpleQueue[tuple[Tensor, Tensor]] = queue.SimpleQueue()
    moved = [(p, torch.empty(p.shape, dtype=p.dtype, device=device)) for p in model.parameters() if not p.is_cuda]
    for parameter, place in moved:
        for piece in zip(_bytes(parameter.detach()).split(PIECE), _bytes(place).split(PIECE), strict=True):
            pieces.put(piece)
    torch.cuda.synchronize(device)  # the places are from the default stream's memory, which it may not be done with
    with ThreadPoolExecutor(THREADS) as pool:
        for carrier in [pool.submit(_carry, pieces, device) for _ in range(THREADS)]:
            carrier.result()
    for parameter, place in moved:
        parameter.data = place
    return model.to(device)  # buffers


def read_ahead(checkpoints: Sequence[tuple[str, str | None]], rank: int, world: int) -> threading.Thread:
    """Begin to read this process's share of weight files into the node's page cache, while it imports and connects.

    Args:
        checkpoints: names and revisions; hub names that are not on this machine are left out.
        rank, world: which share of how many.

    Returns:
        The thread, which never raises and need not be waited for.
    """

    def read() -> None:
        buffer, files = memoryview(bytearray(READ_AT_ONCE)), []
        with suppress(Exception):  # whoever loads the files says what is wrong with them
            for name, revision in checkpoints:
                with suppress(Exception):
                    files += weight_files(name, revision)
            parts = [(path, at) for path in files for at in range(0, path.stat().st_size, READ_AT_ONCE)]
            for path, at in parts[rank::world]:
                with path.open("rb", buffering=0) as file:
                    file.seek(at)
                    file.readinto(buffer)

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    return thread


def weight_files(name: str, revision: str | None = None) -> list[Path]:
    """Files on this machine that hold a checkpoint's weights; safetensors where there are both kinds."""
    folder = Path(resolve(name))
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    kinds = [sorted(folder.glob(f"*{suffix}")) for suffix in _SUFFIXES]
    return next((found for found in kinds if found), [])


def _carry(pieces: "queue.SimpleQueue[tuple[Tensor, Tensor]]", device: torch.device) -> None:
    stream = torch.cuda.Stream(device)
    with torch.cuda.device(device), torch.cuda.stream(stream), suppress(queue.Empty):
        pinned = [torch.empty(PIECE, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        left = [torch.cuda.Event() for _ in pinned]
        for turn in range(sys.maxsize):
            read, place = pieces.get_nowait()
            own = pinned[turn % 2][: len(read)]  # (bytes,)
            left[turn % 2].synchronize()  # what was in it has arrived
            own.copy_(read)  # from the page cache, or the disk; other threads run meanwhile
            place.copy_(own, non_blocking=True)
            left[turn % 2].record(stream)
    stream.synchronize()


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)  # (bytes,)


def _of_known_layers(model: nn.Module, keys: Sequence[str]) -> set[str]:
    """Those of `keys` that belong to a layer of the model; others are of heads and the like that it does without."""
    layers = {name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))}
    return {key for key in keys if key.rpartition(".")[0] in layers}


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Within it an optional package counts as not installed, unless it is imported already."""
    known = package in sys.modules
    if not known:
        sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not known:
            del sys.modules[package]


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
