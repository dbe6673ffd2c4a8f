"""The two tokenizers of the embedded pair, trained on the task's own text.

They differ as those of the default large pair do: the source's is built like Mistral's (metaspace, byte fallback, one
digit a token), the target's like Llama 3's (byte level, other special tokens). The source's vocabulary has the stems of
the number words. The target's is trained on numerals and nonsense words alone, so that number words are split into
pieces without meaning to it. In both, the token of a number's first digit includes the space before it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ray_bridge.embedded_pair.recipe import nonsense_words
from ray_bridge.tasks.synthetic.lexicon import stems
from ray_bridge.tasks.synthetic.problems import choose_words, problems, prompt, worded

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

Side = Literal["source", "target"]

VOCABULARY_SIZE: dict[Side, int] = {"source": 1280, "target": 1024}
NUMERALS_CUE = "\nNumerals:"
SOFT_ONLY_PROMPT = "Question: Solve the problem above.\nAnswer:"


def _texts(side: Side, n: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for i, problem in zip(range(n), problems("pretraining", rng), strict=False):
        if side == "source":
            words = choose_words(rng, problem, bool(i % 2)) if i % 3 else None
            question = worded(problem, words or {})
            yield f"{prompt(question)} {problem.answer}"
            if i % 4 == 0:
                yield f"Question: {question}{NUMERALS_CUE} {problem.word()}"
        else:
            question = problem.word() if i % 3 else problem.word(lambda s: nonsense_words.phrase(rng, s))
            yield f"{prompt(question)} {problem.answer}"
            if i % 8 == 0:
                yield SOFT_ONLY_PROMPT


def make_source(n: int = 12000, seed: int = 7) -> Tokenizer:
    """Train a BPE tokenizer with metaspace, byte fallback and single digits, which learns number words stem by stem."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    pieces = pre_tokenizers.Split(Regex(r"\n|▁?\p{N}|▁?\p{L}+|▁?[^▁\s\p{L}\p{N}]+|▁"), "isolated")
    # In training, merges may not cross a stem's border, so that a compound is split into its stems.
    stem = pre_tokenizers.Split(Regex("▁?(?:" + "|".join(map(re.escape, stems())) + ")"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, stem])
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE["source"],
        special_tokens=special + [f"<0x{i:02X}>" for i in range(256)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts("source", n, seed), trainer)
    # The byte tokens are ordinary vocabulary: only the first three stay special.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["id"] < len(special)]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def make_target(n: int = 12000, seed: int = 8) -> Tokenizer:
    """Train a byte-level BPE tokenizer with single digits, on numerals and nonsense words only."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\p{N}|\n| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE["target"],
        special_tokens=["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts("target", n, seed), trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        pair="<|begin_of_text|> $A $B",
        special_tokens=[("<|begin_of_text|>", 0)],
    )
    return tokenizer


def as_pretrained(tokenizer: Tokenizer, side: Side) -> PreTrainedTokenizerFast:
    """Wrap a tokenizer so that AutoTokenizer loads it from a checkpoint's folder."""
    from transformers import PreTrainedTokenizerFast

    names = (
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
        if side == "source"
        else {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>", "pad_token": "<|pad|>"}
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=512, clean_up_tokenization_spaces=False, **names
    )


def write(folder: Path) -> None:
    """Train both tokenizers and save them below a folder, as source/ and target/."""
    makers: dict[Side, Callable[[], Tokenizer]] = {"source": make_source, "target": make_target}
    for side, make in makers.items():
        (folder / side).mkdir(parents=True, exist_ok=True)
        as_pretrained(make(), side).save_pretrained(folder / side)
