"""Load weight files onto a device: each file is read once per node, mapped into memory and copied by several threads.

transformers maps safetensors files into memory: on a CPU the parameters *are* the files' pages, which the processes of
a node share, and nothing is copied until a device asks for it (placing them on a device directly, its `device_map`,
needs accelerate). `Module.to` copies one piece after another; `to_device` keeps several copies in flight.
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
from ray_bridge.config.checkpoint_names import is_random, resolve, trained
from ray_bridge.noise import stable_seed

PIECE = 1 << 25
"""Bytes of one copy; every thread has two buffers of this size in pinned memory."""
THREADS = 4
READ_BYTES = 1 << 23
_SUFFIXES = (".safetensors", ".bin")
LOAD_ERRORS = (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError)


def load_model(place: str, name: str, *, revision: str | None, dtype: str) -> Any:
    """Load a causal LM on the CPU; parameters are mapped from safetensors files that store them in `dtype`.

    Args:
        place: folder or hub name.
        name: the user's name for it, for messages; `random:NAME` draws the weights instead of reading them.
        revision: of a hub name.
        dtype: name of a torch dtype; parameters stored in another one are converted, and so copied.

    Raises:
        UserError: when files are absent or damaged, or do not hold the model that the config describes.
    """
    AutoModelForCausalLM = auto_classes()[0]
    if is_random(name):
        return _random_model(place, name, revision, getattr(torch, dtype))
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            place,
            revision=revision,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except LOAD_ERRORS as error:
        raise UserError(f"cannot load the checkpoint {name}: {first_line(error)}") from error
    other = {key: f"{key} is {list(stored)} instead of {list(own)}" for key, stored, own in loading["mismatched_keys"]}
    for keys, what in (
        (set(loading["missing_keys"]) - set(other), "its weight files lack"),
        (set(other.values()), "its weight files do not fit its config.json:"),
        (_of_known_layers(model, loading["unexpected_keys"]), "its config.json does not describe"),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise UserError(
                f"cannot load the checkpoint {name}: {what} {min(keys)}{more}; copy or save the whole checkpoint again"
            )
    if loading["unexpected_keys"]:
        unused = sorted(loading["unexpected_keys"])
        warnings.warn(f"{name}: {len(unused)} tensors are not used, such as {unused[0]}", stacklevel=3)
    return model


def _random_model(place: str, name: str, revision: str | None, dtype: torch.dtype) -> Any:
    """Make a model of a checkpoint's architecture, with the initial weights of its class under one fixed seed.

    They are drawn on the CPU in float32, so that every machine and every dtype has the same model.
    """
    AutoModelForCausalLM = auto_classes()[0]
    from transformers import AutoConfig, GenerationConfig

    try:
        config = AutoConfig.from_pretrained(place, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load the configuration of {trained(name)}: {first_line(error)}") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stable_seed("random weights"))
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(dtype)
    with suppress(OSError):  # not every checkpoint has one; it may name further tokens that end a text
        model.generation_config = GenerationConfig.from_pretrained(place, revision=revision)
    return model


def auto_classes() -> tuple[Any, Any]:
    """Return transformers' AutoModelForCausalLM and AutoTokenizer, imported without what only generation needs."""
    with _without("sklearn"):  # for assisted generation only; imports SciPy, which takes every worker a second
        from transformers import AutoModelForCausalLM, AutoTokenizer
    return AutoModelForCausalLM, AutoTokenizer


def to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model in place; onto a GPU by several threads, each of which reads while its last piece is being copied.

    Parameters that modules share stay shared.
    """
    if device.type != "cuda":
        return model.to(device)
    device = torch.empty(0, device=device).device  # with its index: the default device is per thread
    pieces: queue.SimpleQueue[tuple[Tensor, Tensor]] = queue.SimpleQueue()
    moved = [(p, torch.empty(p.shape, dtype=p.dtype, device=device)) for p in model.parameters() if not p.is_cuda]
    for parameter, place in moved:
        for piece in zip(_bytes(parameter.detach()).split(PIECE), _bytes(place).split(PIECE), strict=True):
            pieces.put(piece)
    torch.cuda.synchronize(device)  # the default stream may still be using the memory that the new tensors got
    with ThreadPoolExecutor(THREADS) as pool:
        for copier in [pool.submit(_copy_pieces, pieces, device) for _ in range(THREADS)]:
            copier.result()
    for parameter, place in moved:
        parameter.data = place
    return model.to(device)  # buffers


def read_ahead(checkpoints: Sequence[tuple[str, str | None]], rank: int, world: int) -> threading.Thread:
    """Start reading this process's share of weight files into the node's page cache, while it imports and connects.

    Args:
        checkpoints: names and revisions; hub names that are not on this machine are left out.
        rank: of this process.
        world: number of processes.

    Returns:
        The thread, which never raises and need not be waited for.
    """

    def read() -> None:
        buffer, files = memoryview(bytearray(READ_BYTES)), []
        with suppress(Exception):  # loading the files will report what is wrong with them
            for name, revision in checkpoints:
                with suppress(Exception):
                    files += weight_files(name, revision)
            parts = [(path, at) for path in files for at in range(0, path.stat().st_size, READ_BYTES)]
            for path, at in parts[rank::world]:
                with path.open("rb", buffering=0) as file:
                    file.seek(at)
                    file.readinto(buffer)

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    return thread


def weight_files(name: str, revision: str | None = None) -> list[Path]:
    """Return the files on this machine that hold a checkpoint's weights; safetensors if it has both, none if random.

    Raises:
        UserError: if there is no such checkpoint; see `resolve`.
    """
    folder = Path(resolve(name))
    if is_random(name):
        return []
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    by_format = [sorted(folder.glob(f"*{suffix}")) for suffix in _SUFFIXES]
    return next((files for files in by_format if files), [])


def _copy_pieces(pieces: "queue.SimpleQueue[tuple[Tensor, Tensor]]", device: torch.device) -> None:
    stream = torch.cuda.Stream(device)
    with torch.cuda.device(device), torch.cuda.stream(stream), suppress(queue.Empty):
        pinned = [torch.empty(PIECE, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        copied = [torch.cuda.Event() for _ in pinned]
        for number in range(sys.maxsize):
            source, destination = pieces.get_nowait()
            buffer = pinned[number % 2][: len(source)]  # (bytes,)
            copied[number % 2].synchronize()  # the buffer's last content has reached the device
            buffer.copy_(source)  # from the page cache, or the disk; other threads run meanwhile
            destination.copy_(buffer, non_blocking=True)
            copied[number % 2].record(stream)
    stream.synchronize()


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)  # (bytes,)


def _of_known_layers(model: nn.Module, keys: Sequence[str]) -> set[str]:
    """Return those of `keys` that belong to a layer of the model; others are of heads and the like that it lacks."""
    layers = {name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))}
    return {key for key in keys if key.rpartition(".")[0] in layers}


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Let an optional package count as not installed while the body runs, unless it was imported before."""
    imported = package in sys.modules
    if not imported:
        sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not imported:
            del sys.modules[package]


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class's name."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
