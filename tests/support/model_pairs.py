"""Small random checkpoints of several architectures with real fast tokenizers, for tests that need a pair of models.

Each tokenizer works as its family's: Mistral's (metaspace, byte fallback, one digit a token), Llama 3's (byte level,
digits in groups of up to three), GPT-NeoX's (GPT-2 splitting, no BOS) and Qwen 2's (byte level, single digits, no BOS).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.synthetic.task import SyntheticTask

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Arch = Literal["mistral", "llama", "gpt_neox", "qwen2"]

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPECIAL: dict[Arch, dict[str, str]] = {
    "mistral": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    "llama": {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
    "gpt_neox": {"eos_token": "<|endoftext|>"},
    "qwen2": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
}


@dataclass(frozen=True, kw_only=True)
class PairFolders:
    """Folders of two checkpoints, as `source=` and `target=` of a spec take them."""

    source: str
    target: str


def make_pair(
    folder: Path,
    source_arch: Arch = "mistral",
    target_arch: Arch = "llama",
    *,
    source_width: int = 48,
    target_width: int = 32,
    depth: int = 3,
    tied: bool = False,
    seed: int = 0,
    target_kv_heads: int = 1,
) -> PairFolders:
    """Save two random fp32 checkpoints below a folder and return their folders."""
    places = {"source": (source_arch, source_width), "target": (target_arch, target_width)}
    for number, (side, (arch, width)) in enumerate(places.items()):
        place, heads = Path(folder) / side, target_kv_heads if side == "target" else 1
        save_checkpoint(place, arch, width=width, depth=depth, tied=tied, seed=seed + number, kv_heads=heads)
    return PairFolders(source=str(Path(folder) / "source"), target=str(Path(folder) / "target"))


def save_checkpoint(
    folder: Path,
    arch: Arch,
    *,
    width: int = 32,
    depth: int = 3,
    tied: bool = False,
    seed: int = 0,
    kv_heads: int = 1,
) -> Path:
    """Save one random fp32 checkpoint with its tokenizer."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    tokenizer = make_tokenizer(arch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model(arch, tokenizer, width=width, depth=depth, tied=tied, kv_heads=kv_heads)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_model(
    arch: Arch, tokenizer: Any, *, width: int = 32, depth: int = 3, tied: bool = False, kv_heads: int = 1
) -> Any:
    """Return a model with weights from torch's current seed, large enough that its outputs depend on its inputs."""
    from transformers import AutoConfig, AutoModelForCausalLM

    heads = width // 16
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "num_hidden_layers": depth,
        "intermediate_size": 2 * width,
        "num_attention_heads": heads,
        "max_position_embeddings": 2048,
        "initializer_range": 0.15,
        "tie_word_embeddings": tied,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if arch != "gpt_neox":
        common |= {"num_key_value_heads": kv_heads}
    common["rope_parameters"] = {
        "mistral": {"rope_type": "default", "rope_theta": 1e6},
        "llama": {
            "rope_type": "llama3",
            "rope_theta": 5e5,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 256,
        },
        "gpt_neox": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25},
        "qwen2": {"rope_type": "default", "rope_theta": 1e6},
    }[arch]
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(arch, **common)).float().eval()


@cache
def frozen(arch: Arch, width: int) -> FrozenLM:
    """Return a random model in memory, shared by all tests: do not change its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(width)
        return FrozenLM(make_model(arch, make_tokenizer(arch), width=width), make_tokenizer(arch), arch)


@cache
def make_tokenizer(arch: Arch) -> Any:
    """Return a trained fast tokenizer that works as the architecture's, as AutoTokenizer loads it."""
    from transformers import PreTrainedTokenizerFast

    backend = _metaspace() if arch == "mistral" else _byte_level(arch)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, model_max_length=2048, **_SPECIAL[arch]
    )


def _texts() -> list[str]:
    task = SyntheticTask(train_examples=300, test_examples=1)
    texts = [task.prompt(example) + task.continuation(example) for example in task.train()]
    return [
        *texts,
        *(f"{i} costs ${i * 7} or {i * 3:,}." for i in range(400)),
        *["1234"] * 60,
        "¿Qué? ça coûte 12 € – naïve 東京",
    ]


def _metaspace() -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = list(_SPECIAL["mistral"].values())
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=True),
            pre_tokenizers.Split(Regex(r"\n|\p{N}"), "isolated"),
        ]
    )
    pieces = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special + pieces, show_progress=False)
    tokenizer.train_from_iterator(_texts(), trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < len(special)]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def _byte_level(arch: Arch) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    if arch == "gpt_neox":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True)
    else:
        digits = r"\p{N}{1,3}" if arch == "llama" else r"\p{N}"
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(f"{_WORDS}|{digits}|{_REST}"), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=list(_SPECIAL[arch].values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.decoder = decoders.ByteLevel()
    if arch == "llama":
        begin = _SPECIAL["llama"]["bos_token"]
        number = tokenizer.token_to_id(begin)
        template = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, number)])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=arch == "gpt_neox")
    return tokenizer
