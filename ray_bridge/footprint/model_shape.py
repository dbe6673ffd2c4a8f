"""The sizes of a model that decide what it needs, read from its configuration without loading it."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bridge_common.errors import UserError, reason_of
from bridge_common.files import read_json
from ray_bridge.config.checkpoint_names import resolve, trained
from ray_bridge.config.spec import JobSpec
from ray_bridge.footprint.context import context_length
from ray_bridge.footprint.weight_files import AGAIN, parameters_in

_NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size")
FUSED = frozenset({"llama", "mistral", "qwen2", "qwen3", "phi3", "gemma3", "gemma3_text"})
"""Model types whose layers are fused on a GPU, unless a check on its weights says otherwise."""


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Sizes of a causal language model.

    Attributes:
        name: of the checkpoint.
        kind: transformers' model type.
        parameters: weights, each counted once.
        vocabulary: V.
        hidden: d.
        layers: number of layers.
        heads: h, query heads.
        kv_heads: h_kv, key heads.
        head_dim: D.
        intermediate: m, width of the MLP.
        context: positions that it reads, None for no limit.
        gated: whether the MLP has a gate.
        head_norms: whether each query and key head is normed.
        norms: norms of d features in a layer.
        wide_norms: whether they are computed in fp32 on a GPU, too.
        capped: whether attention scores are capped.
        window: positions that the layer sees which sees fewest, None for all, 0 if that is not known.
    """

    name: str
    kind: str
    parameters: int
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    context: int | None
    gated: bool = True
    head_norms: bool = False
    norms: int = 2
    wide_norms: bool = False
    capped: bool = False
    window: int | None = None

    @classmethod
    def from_config(cls, config: Any, name: str, parameters: int | None = None) -> "ModelShape":
        """Return the sizes that a configuration describes.

        Args:
            config: the text model's, as transformers loads it or as config.json has it.
            name: of the checkpoint.
            parameters: number of its weights; None computes it from the sizes.
        """
        kind, hidden, heads = config.model_type, config.hidden_size, config.num_attention_heads
        shape = cls(
            name=name,
            kind=kind,
            parameters=parameters or 0,
            vocabulary=config.vocab_size,
            hidden=hidden,
            layers=config.num_hidden_layers,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or hidden // heads,
            intermediate=getattr(config, "intermediate_size", None) or 4 * hidden,
            context=context_length(config),
            gated=kind not in ("gpt_neox", "phi", "gpt2", "falcon", "bloom", "opt"),
            head_norms=kind in ("qwen3", "gemma3", "gemma3_text"),
            norms=4 if kind in ("gemma2", "gemma3", "gemma3_text") else 2,
            wide_norms=kind.startswith("gemma"),
            capped=bool(getattr(config, "attn_logit_softcapping", None)),
            window=_shortest_window(config),
        )
        if parameters:
            return shape
        tied = bool(getattr(config, "tie_word_embeddings", False))
        return replace(shape, parameters=shape.computed_parameters(tied=tied))

    def computed_parameters(self, *, tied: bool) -> int:
        """Return the number of weights that follow from the sizes, without biases and norms.

        Args:
            tied: whether the head is the embedding table.
        """
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        mlp = self.hidden * self.intermediate * (3 if self.gated else 2)
        return self.layers * (attention + mlp) + self.vocabulary * self.hidden * (1 if tied else 2)

    @property
    def fused(self) -> bool:
        """Whether its layers are fused on a GPU."""
        return self.kind in FUSED

    def attends_fully(self, length: int) -> bool:
        """Return whether every layer sees all of a text of so many positions, as `models/windows.py` does."""
        return self.window is None or self.window >= length

    def kv_elements(self, positions: int) -> int:
        """Return the numbers that keys and values of so many positions are."""
        return 2 * self.layers * self.kv_heads * self.head_dim * positions


def _shortest_window(config: Any) -> int | None:
    types = set(getattr(config, "layer_types", None) or ())
    other = getattr(config, "attention_chunk_size", None) is not None
    if (
        other
        or getattr(config, "use_bidirectional_attention", False)
        or types - {"full_attention", "sliding_attention"}
    ):
        return 0
    # Qwen's config.json names a window that is not used.
    if types == {"full_attention"} or not getattr(config, "use_sliding_window", True):
        return None
    window: int | None = getattr(config, "sliding_window", None)
    return window


def read_shape(name: str, revision: str | None = None) -> ModelShape | None:
    """Return the sizes of a checkpoint on this machine; None if its configuration is not here.

    Args:
        name: a folder, a hub name, or `embedded:source` / `embedded:target`.
        revision: of a hub name.

    Raises:
        UserError: if its configuration or one of its files of weights is damaged.
    """
    folder = local_folder(name, revision)
    if folder is None:
        return None
    content = read_json(folder / "config.json", AGAIN)
    inner = content.get("text_config", {}) if isinstance(content, dict) else None
    if not isinstance(inner, dict):
        raise UserError(f"{folder / 'config.json'} describes no model: {AGAIN}")
    values = content | inner
    if not all(key in values for key in _NEEDED):  # some list what differs from their class's defaults only
        config = _load_config(folder)
        return ModelShape.from_config(config.get_text_config(), name, _count_parameters(folder))
    config = SimpleNamespace(**values)
    return ModelShape.from_config(config, name, _count_parameters(folder))


def check_layers(spec: JobSpec) -> None:
    """Refuse a job that names layers which its models lack, if their configurations are on this machine.

    Raises:
        UserError: with the layers that there are.
    """
    shape = read_shape(spec.source, spec.source_revision)
    if shape is not None and not -shape.layers - 1 <= spec.source_layer <= shape.layers:
        raise UserError(f"source_layer={spec.source_layer}: {spec.source} has layers 0 to {shape.layers}")
    shape = read_shape(spec.target, spec.target_revision) if spec.adapter_layers else None
    if shape is not None and not all(1 <= layer <= shape.layers for layer in spec.adapter_layers):
        listed = ",".join(map(str, spec.adapter_layers))
        raise UserError(f"adapter_layers={listed}: {spec.target} has layers 1 to {shape.layers}")


def local_folder(name: str, revision: str | None = None) -> Path | None:
    """Return the folder on this machine that holds a checkpoint's configuration; None if it is not here."""
    folder = Path(resolve(name))
    if folder.is_dir():
        return folder
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(trained(name), "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def _load_config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load the configuration of {folder}: {reason_of(error)}") from error


def _count_parameters(folder: Path) -> int | None:
    """Return the number of a checkpoint's parameters, by the headers of its safetensors files; None without.

    Raises:
        UserError: if one of them is damaged.
    """
    return sum(map(parameters_in, sorted(folder.glob("*.safetensors")))) or None
