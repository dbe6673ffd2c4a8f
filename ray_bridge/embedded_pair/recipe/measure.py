"""What the embedded pair can do alone: accuracy by condition, tokens a question costs, and what states hold.

Everything is measured on the test split from saved checkpoints, loaded as any user of the pair loads them.
`python -m ray_bridge.embedded_pair.recipe.measure --pair DIR` measures a pair again.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import DynamicCache, PreTrainedModel

from ray_bridge.embedded_pair.recipe.context_notes import rms
from ray_bridge.tasks.synthetic.problems import SyntheticItem, make_examples, prompt

MAX_NEW_TOKENS = 72
TEST_SEED = 0
NOISE_TOKENS = 64


def _answer(text: str) -> str | None:
    found = re.search(r"####\s*(-?\d+)", text)
    return found.group(1) if found else None


@torch.no_grad()
def greedy(model: PreTrainedModel, rows: Sequence[Tensor], eos: int) -> list[list[int]]:
    """Greedy continuations of embedded prompts, each (tokens, d), left-padded to one batch."""
    longest, device = max(len(r) for r in rows), rows[0].device
    embeds = torch.stack([torch.cat([r.new_zeros(longest - len(r), r.shape[1]), r]) for r in rows])  # (B, S, d)
    lengths = torch.tensor([len(r) for r in rows], device=device)
    mask = (torch.arange(longest, device=device) >= (longest - lengths)[:, None]).long()  # (B, S)
    cache = DynamicCache(config=model.config)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(
        inputs_embeds=embeds, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
    ).logits
    done = torch.zeros(len(rows), dtype=torch.bool, device=device)
    tokens = []
    for step in range(MAX_NEW_TOKENS):
        token = torch.where(done, eos, logits[:, -1].argmax(-1))
        tokens.append(token)
        done = done | (token == eos)
        if step % 4 == 3 and bool(done.all()):
            break
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
        logits = model(
            input_ids=token[:, None],
            attention_mask=mask,
            position_ids=(lengths + step)[:, None],
            past_key_values=cache,
        ).logits
    return [row[: row.index(eos)] if eos in row else row for row in torch.stack(tokens, 1).tolist()]


def solve(model: PreTrainedModel, tokenizer: Any, rows: Sequence[Tensor], batch: int = 500) -> list[str]:
    """Greedy answers to embedded prompts.

    The memory-efficient attention kernel is kept out: with torch 2.11 on an H200 in fp32 it answered half of a batch
    wrongly whose left-padded prompts were 65 tokens long, where plain attention answered all of it right.
    """
    texts: list[str] = []
    with sdpa_kernel([SDPBackend.MATH]):
        for i in range(0, len(rows), batch):
            texts += [tokenizer.decode(t) for t in greedy(model, rows[i : i + batch], tokenizer.eos_token_id)]
    return texts


def prompts(
    model: PreTrainedModel, tokenizer: Any, items: Sequence[SyntheticItem], prefixes: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """Embedded prompts [BOS][prefix][prompt], the prefix being soft tokens or nothing."""
    table = model.get_input_embeddings().weight.detach()
    rows = []
    for i, item in enumerate(items):
        ids = torch.tensor(tokenizer(prompt(item.question)).input_ids, device=table.device)
        embeds = table[ids]
        rows.append(embeds if prefixes is None else torch.cat([embeds[:1], prefixes[i], embeds[1:]]))
    return rows


def missing_numbers(item: SyntheticItem) -> str:
    """The numbers that a question writes as words, in order, in numerals."""
    return " ".join(map(str, item.word_values))


def accuracy(items: Sequence[SyntheticItem], texts: Sequence[str]) -> dict[str, float | int]:
    """Share of right answers, over all items and by group."""
    right = [_answer(t) == item.gold for item, t in zip(items, texts, strict=True)]
    result: dict[str, float | int] = {"n": len(items), "all": sum(right) / len(right)}
    for group in ("none", "seen", "transfer"):
        of = [r for r, item in zip(right, items, strict=True) if item.words == group]
        if of:
            result[group] = sum(of) / len(of)
    return {k: v if isinstance(v, int) else round(v, 4) for k, v in result.items()}


def token_counts(tokenizer: Any, items: Sequence[SyntheticItem]) -> dict[str, dict[str, float | int]]:
    """Mean and largest number of tokens of prompts (with BOS) and answers (with EOS)."""
    ask = [len(tokenizer(prompt(i.question)).input_ids) for i in items]
    full = [len(tokenizer(f"{prompt(i.question)} {i.answer}").input_ids) + 1 for i in items]
    answer = [f - a for f, a in zip(full, ask, strict=True)]
    return {k: {"mean": round(sum(v) / len(v), 1), "max": max(v)} for k, v in (("prompt", ask), ("answer", answer))}


def measure_target(model: PreTrainedModel, tokenizer: Any, items: Sequence[SyntheticItem]) -> dict[str, Any]:
    """The target alone, with a note of the missing numbers in front, with noise in front."""
    table = model.get_input_embeddings().weight.detach()
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        return torch.randn(NOISE_TOKENS, table.shape[1], generator=generator).to(table) * rms(table).median()

    def encoded(text: str) -> Tensor:
        return table[torch.tensor(tokenizer(text, add_special_tokens=False).input_ids, device=table.device)]

    worded = [i for i in items if i.words != "none"]
    noted = {
        "note of missing numbers": [encoded(" " + missing_numbers(i)) for i in worded],
        "note of the question in numerals": [encoded(i.numeral_question) for i in worded],
    }
    noisy = []
    for item in worded:  # the note at a random place amid noise, as long as the bridge's soft tokens
        soft, text = noise(), encoded(" " + missing_numbers(item))
        at = int(torch.randint(NOISE_TOKENS - len(text), (1,), generator=generator))
        soft[at : at + len(text)] = text * (rms(table).median() / rms(text))
        noisy.append(soft)
    result = {"alone": accuracy(items, solve(model, tokenizer, prompts(model, tokenizer, items)))}
    result["random soft tokens"] = accuracy(
        items, solve(model, tokenizer, prompts(model, tokenizer, items, [noise() for _ in items]))
    )
    for name, prefixes in {**noted, "note of missing numbers amid noise": noisy}.items():
        result[name] = accuracy(worded, solve(model, tokenizer, prompts(model, tokenizer, worded, prefixes)))
    return result


def measure_source(model: PreTrainedModel, tokenizer: Any, items: Sequence[SyntheticItem]) -> dict[str, Any]:
    """The source alone, and what its layers hold of the words' values."""
    from ray_bridge.embedded_pair.recipe.linear_probe import layer_probe

    return {
        "alone": accuracy(items, solve(model, tokenizer, prompts(model, tokenizer, items))),
        "probe": layer_probe(model, tokenizer, min(6000, 3 * len(items))),
    }


def measure(folder: Path, side: str, device: str, n: int) -> dict[str, Any]:
    """All figures of one saved checkpoint."""
    from ray_bridge.embedded_pair.recipe.architectures import load

    model, tokenizer = load(folder, device)
    items = make_examples("test", n, TEST_SEED)
    figures = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": sum(f.stat().st_size for f in folder.iterdir()),
        "vocabulary": len(tokenizer),
        "tokens": token_counts(tokenizer, items),
    }
    return figures | (measure_source if side == "source" else measure_target)(model, tokenizer, items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pair", type=Path, default=Path(__file__).parents[1], help="folder with source/ and target/")
    parser.add_argument("--n", type=int, default=2000, help="test questions")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    for side in ("source", "target"):
        print(side, json.dumps(measure(args.pair / side, side, args.device, args.n), indent=1))


if __name__ == "__main__":
    main()
