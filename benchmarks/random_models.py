"""Models with random weights in the paper's geometry, and random prompts, made on the device without any download.

`paper` is Mistral-7B-v0.3 and Llama-3.1-8B with prompts of eight exemplars, about 1,450 target tokens, whose ids are
drawn at random (code that needs text uses the embedded pair's tokenizers). `tiny` is the embedded pair itself in the
same layout, for a CPU. Hidden states under plain random weights are tame; the weights `massive` have the statistics of
real ones in this (`massive_activations`).
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.massive_activations import WEIGHTS, give_massive_activations
from ray_bridge.config.presets import paper
from ray_bridge.config.spec import JobSpec
from ray_bridge.gpu.settings import configure_torch
from ray_bridge.inputs.encoding import Encoded, Encoder
from ray_bridge.inputs.rows import Row
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.eight_bits import held_bytes
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.token_alignment import TokenAlignment
from ray_bridge.noise import stable_seed
from ray_bridge.tasks.splits import Splits, load_splits
from ray_bridge.tasks.task import Example

GEOMETRY: dict[str, dict[str, Any]] = {
    "source": {
        "kind": "mistral",
        "vocab_size": 32768,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "sliding_window": None,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "tie_word_embeddings": False,
    },
    "target": {
        "kind": "llama",
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 5e5,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "tie_word_embeddings": False,
    },
}
"""Mistral-7B-v0.3 and Llama-3.1-8B."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens of each part of a prompt, BOS in the header; questions and answers vary by up to a quarter of theirs."""

    header: int
    question: int
    answer: int


LENGTHS = {
    "paper": Lengths(header=1330, question=120, answer=150),
    "tiny": Lengths(header=160, question=40, answer=40),
}


class SizedEncoder(Encoder):
    """Encodes an example as random ids of given lengths, which depend on the example's id alone."""

    lengths: Lengths

    def __init__(self, *arguments: Any, lengths: Lengths) -> None:
        super().__init__(*arguments)
        self.lengths = lengths

    def _encode(self, examples: Sequence[Example]) -> list[Encoded]:
        return [self._sized(example) for example in examples]

    def _sized(self, example: Example) -> Encoded:
        header_s, header_t = (
            (lm.bos, *_draw(lm, self.lengths.header - 1, "header")) for lm in (self.source, self.target)
        )
        draw = np.random.default_rng(stable_seed("lengths", example.id))
        n, a = (int(x * draw.uniform(0.75, 1.25)) for x in (self.lengths.question, self.lengths.answer))
        question = _draw(self.target, n, f"q{example.id}")
        answer = (*_draw(self.target, a - 1, f"a{example.id}"), self.target.eos)
        if self.spec.soft_position == "before_question":
            row = Row(before=header_t, prompt=question, answer=answer, header=len(header_t))
        else:
            row = Row(before=header_t[:1], prompt=header_t[1:] + question, answer=answer, header=len(header_t))
        span = (len(header_s), len(header_s) + n)
        each = np.arange(n, dtype=np.int32)
        return Encoded(
            example=example,
            source_ids=header_s + _draw(self.source, n, f"s{example.id}"),
            question_span=span,
            row=row,
            text_row=row.text_only(),
            question_ids=question,
            source_header=len(header_s),
            alignment=TokenAlignment(
                source_span=span,
                tokens=each + len(header_t),
                bytes=np.ones(n, np.float32),
                row=each,
                column=each,
                share=np.ones(n, np.float32),
            ),
        )


def _draw(lm: FrozenLM, count: int, key: str) -> tuple[int, ...]:
    draw = np.random.default_rng(stable_seed("ids", lm.name, key))
    return tuple(int(i) for i in draw.integers(10, min(lm.embedding.weight.shape[0], len(lm.tokenizer)), count))


def random_lm(side: str, device: torch.device, weights: str = "plain", **changes: Any) -> FrozenLM:
    """Return a random bf16 model, `source` or `target` of `GEOMETRY`, with the embedded pair's tokenizer.

    Args:
        side: which of the two.
        device: where it is made.
        weights: one of `WEIGHTS`.
        **changes: to its configuration.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from ray_bridge.config.checkpoint_names import resolve

    configure_torch(device)
    values = {**GEOMETRY[side], **changes}
    config = AutoConfig.for_model(values.pop("kind"), **values)
    tokenizer = AutoTokenizer.from_pretrained(resolve(f"embedded:{side}"))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.device(device):
        torch.manual_seed(7)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    lm = FrozenLM(model, tokenizer, f"random-{side}")
    if weights == "massive":
        give_massive_activations(model, lm.bos)
    return lm.fuse() if device.type == "cuda" else lm


def embedded_lm(side: str, device: torch.device, weights: str = "plain") -> FrozenLM:
    """Return a model of the embedded pair in fp32, with its trained weights or, of them, those of `WEIGHTS`."""
    lm = FrozenLM.load(f"embedded:{side}", dtype="float32", device=device)
    if weights == "plain":
        return lm
    give_massive_activations(lm.model, lm.bos)
    lm = FrozenLM(lm.model, lm.tokenizer, f"{side}-{weights}")
    return lm.fuse() if device.type == "cuda" else lm


def add_weights_option(parser: ArgumentParser) -> None:
    """Add the option `--weights`, by default those of all figures that are stored without a name of weights."""
    meaning = "random weights as initialised, or with the massive activations of real ones"
    parser.add_argument("--weights", choices=WEIGHTS, default="plain", help=meaning)


def result_name(name: str, weights: str) -> str:
    """Return the name of a result file, so that results of other weights do not replace those of plain ones."""
    return name if weights == "plain" else f"{name}-{weights}"


def save_checkpoint(side: str, folder: Path, tokenizer: Any, device: torch.device, **changes: Any) -> None:
    """Save a random bf16 model, `source` or `target` of `GEOMETRY`, and its tokenizer in a folder."""
    from transformers import AutoConfig, AutoModelForCausalLM

    values = {**GEOMETRY[side], **changes}
    config = AutoConfig.for_model(values.pop("kind"), **values)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder, max_shard_size="5GB")


def bench_spec(size: str, **changes: Any) -> JobSpec:
    """Return the paper's configuration on random text; for the size `tiny` with a small bridge, for a CPU."""
    values: dict[str, Any] = {
        "source": "embedded:source",
        "target": "embedded:target",
        "task": "synthetic",
        "num_fewshot": 8,
        "train_examples": 480,
        "validation_examples": 200,
        "test_examples": 1319,
        "max_new_tokens": 256,  # GSM8K's: the random text's own task asks for fewer
        "decode_aware": False,
    }
    if size == "tiny":
        values |= {
            "soft_tokens": 8,
            "hidden_size": 64,
            "num_heads": 4,
            "depth": 2,
            "max_new_tokens": 24,
            "source_layer": 3,
            "train_examples": 64,
            "validation_examples": 16,
            "test_examples": 24,
            "model_dtype": "float32",
        }
    return paper(**{**values, **changes})


class Rig:
    """The frozen models of one size on a device, from which `pair` makes the model pair of a spec."""

    def __init__(self, size: str, device: torch.device, sides: str = "source target", weights: str = "plain") -> None:
        self.size, self.device, self.weights = size, device, weights
        make = random_lm if size == "paper" else embedded_lm
        self.models = {side: make(side, device, weights) for side in sides.split()}

    @property
    def facts(self) -> dict[str, str]:
        """What names results of other weights than plain ones, so that they are not compared with those."""
        return {} if self.weights == "plain" else {"variant": f"{self.weights} weights"}

    def pair(self, spec: JobSpec, splits: Splits | None = None) -> ModelPair:
        """Return source, target and task for a spec, with an encoder of random rows."""
        splits = splits or load_splits(spec)
        source, target = self.models["source"], self.models["target"]
        encoder = SizedEncoder(spec, splits.task, splits.header, source, target, lengths=LENGTHS[self.size])
        return ModelPair(spec=spec, source=source, target=target, task=splits.task, encoder=encoder)


def rows_of(lm: FrozenLM, count: int, length: int, *, header: int = 0) -> list[Row]:
    """Return random prompts of a given length, of which the first `header` ids are shared."""
    shared = (lm.bos, *_draw(lm, max(0, header - 1), "header"))
    rest = length - len(shared)
    if header:
        return [Row(before=shared, prompt=_draw(lm, rest, f"r{i}"), header=header) for i in range(count)]
    return [Row(before=shared, prompt=_draw(lm, rest, f"r{i}")) for i in range(count)]


def weight_bytes(lm: FrozenLM) -> int:
    """Return the bytes of weights that a decode step reads: all but the embedding table, of which it reads one row."""
    total = held_bytes(lm.model)
    tied = lm.model.get_output_embeddings().weight is lm.embedding.weight
    return total if tied else total - lm.embedding.weight.numel() * lm.embedding.weight.element_size()


def kv_bytes(lm: FrozenLM, positions: int) -> int:
    """Return the bytes of keys and values of a number of positions; of a model in parts those of this process's."""
    config = lm.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = config.num_key_value_heads // (1 if lm.shards is None else lm.shards.size)
    return 2 * lm.num_layers * heads * width * lm.embedding.weight.element_size() * positions


def matmul_flops(lm: FrozenLM, tokens: int, layers: int | None = None) -> float:
    """Return the FLOP of the layers' linear maps for a number of tokens, without attention's, a few per cent."""
    per_layer = sum(p.numel() for p in lm.layers[0].parameters() if p.dim() == 2)
    return 2.0 * per_layer * (layers or lm.num_layers) * tokens
