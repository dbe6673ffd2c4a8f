"""Load a process's part of a checkpoint: only the slices of each tensor that it holds are read, never the whole model.

Files are mapped into memory, so the processes of a node share the pages that they read, and what is on the device is a
process's own part alone.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from bridge_common.errors import UserError
from ray_bridge.config.checkpoint_names import is_random
from ray_bridge.models.sharding.group import ShardGroup
from ray_bridge.models.sharding.layers import Part, cut_layers, replace_parameter
from ray_bridge.models.weights import LOAD_ERRORS, THREADS, auto_classes, first_line


def load_part(
    place: str, name: str, *, revision: str | None, dtype: str, device: torch.device, group: ShardGroup
) -> Any:
    """Load this process's part of a causal LM onto a device.

    Args:
        place: folder or hub name.
        name: the user's name for it, for messages.
        revision: of a hub name.
        dtype: name of a torch dtype, to which tensors stored in another one are converted slice by slice.
        device: where the parameters go.
        group: the processes that hold the parts.

    Raises:
        UserError: when files are absent or damaged, are no safetensors, or do not hold the model that the config
            describes, or the model cannot be cut into so many parts.
    """
    from transformers import AutoConfig, GenerationConfig
    from transformers.utils import GENERATION_CONFIG_NAME

    if is_random(name):
        raise UserError(f"{name}: random weights are not drawn in parts; use target_shards=1")
    try:
        config = AutoConfig.from_pretrained(place, revision=revision)
        with parameters_on_meta():
            model = auto_classes()[0].from_config(config, dtype=getattr(torch, dtype))
        folder = _folder(place, revision)  # first, so that every process reads what one of them has fetched
        if (folder / GENERATION_CONFIG_NAME).is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        files = _tensor_files(folder, name)
        parts = cut_layers(model, name, group)
        _fill(model, name, files, parts, getattr(torch, dtype), device)
    except UserError:
        raise
    except LOAD_ERRORS as error:
        raise UserError(f"cannot load the checkpoint {name}: {first_line(error)}") from error
    model.tie_weights()
    return model.to(device).eval()  # buffers


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Give parameters of modules made in the body shapes but no memory; buffers are real."""
    register = nn.Module.register_parameter

    def without_memory(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            param = nn.Parameter(param.detach().to("meta"), requires_grad=False)
        register(self, name, param)

    nn.Module.register_parameter = without_memory  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _folder(place: str, revision: str | None) -> Path:
    if Path(place).is_dir():
        return Path(place)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(place, revision=revision, allow_patterns=["*.safetensors", "*.json"]))


def _tensor_files(folder: Path, name: str) -> dict[str, Path]:
    """Return the file that holds each tensor of a checkpoint."""
    files = {key: path for path in sorted(folder.glob("*.safetensors")) for key in _keys(path)}
    if not files:
        raise UserError(
            f"cannot load the checkpoint {name}: a part of it can only be read from safetensors files; save it once "
            "with save_pretrained"
        )
    return files


def _keys(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _fill(
    model: nn.Module,
    name: str,
    files: Mapping[str, Path],
    parts: Mapping[str, Part],
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    tied = getattr(model.config, "tie_word_embeddings", False)
    wanted = {key: p for key, p in model.named_parameters() if p.is_meta}
    lacking = sorted(key for key in wanted if key not in files and not (tied and key == "lm_head.weight"))
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise UserError(
            f"cannot load the checkpoint {name}: its weight files lack {lacking[0]}{more}; copy or save the whole "
            "checkpoint again"
        )

    def load(key: str) -> tuple[str, Tensor]:
        with safe_open(files[key], framework="pt") as file:
            stored = file.get_slice(key)
            whole, own = list(stored.get_shape()), list(wanted[key].shape)
            if whole != own:
                raise UserError(
                    f"cannot load the checkpoint {name}: its weight files do not fit its config.json: {key} is {whole} "
                    f"instead of {own}; copy or save the whole checkpoint again"
                )
            part = stored[parts[key].index] if key in parts else stored[:]
            # A copy even without a change of device: a view would keep the whole file mapped, and pages in memory.
            return key, part.to(device=device, dtype=dtype, copy=True, memory_format=torch.contiguous_format)

    with ThreadPoolExecutor(THREADS) as pool:
        for key, value in pool.map(load, [key for key in wanted if key in files]):
            replace_parameter(model, key, value)
