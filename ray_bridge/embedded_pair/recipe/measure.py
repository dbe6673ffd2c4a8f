"""Measure the models of the embedded pair alone: accuracy by condition, tokens a question, linear probes of states.

Everything is measured on the test split from saved checkpoints, loaded as any user of the pair loads them. To measure a
pair again: `python -m ray_bridge.embedded_pair.recipe.measure --pair DIR`.
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
    match = re.search(r"####\s*(-?\d+)", text)
    return match.group(1) if match else None


@torch.no_grad()
def greedy(model: PreTrainedModel, rows: Sequence[Tensor], eos: int) -> list[list[int]]:
    """Continue embedded prompts greedily, each (tokens, d), in one left-padded batch; returns token ids before EOS."""
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
    """Answer embedded prompts greedily.

    The memory-efficient attention kernel is not used: with torch 2.11 on an H200 in fp32 it answered half of a batch of
    left-padded prompts of 65 tokens wrongly, of which plain attention answered all rightly.
    """
    texts: list[str] = []
    with sdpa_kernel([SDPBackend.MATH]):
        for i in range(0, len(rows), batch):
            texts += [tokenizer.decode(t) for t in greedy(model, rows[i : i + batch], tokenizer.eos_token_id)]
    return texts


def prompts(
    model: PreTrainedModel, tokenizer: Any, items: Sequence[SyntheticItem], prefixes: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """Embed prompts as [BOS][prefix][prompt], (L, d) each; prefixes are soft tokens (K, d), none if None."""
    table = model.get_input_embeddings().weight.detach()
    rows = []
    for i, item in enumerate(items):
        ids = torch.tensor(tokenizer(prompt(item.question)).input_ids, device=table.device)
        embeds = table[ids]
        rows.append(embeds if prefixes is None else torch.cat([embeds[:1], prefixes[i], embeds[1:]]))
    return rows


def missing_numbers(item: SyntheticItem) -> str:
    """Return the numbers that a question writes as words, in order, as numerals."""
    return " ".join(map(str, item.word_values))


def accuracy(items: Sequence[SyntheticItem], texts: Sequence[str]) -> dict[str, float | int]:
    """Return the share of right answers, over all items and by group."""
    right = [_answer(t) == item.gold for item, t in zip(items, texts, strict=True)]
    result: dict[str, float | int] = {"n": len(items), "all": sum(right) / len(right)}
    for group in ("none", "seen", "transfer"):
        of = [r for r, item in zip(right, items, strict=True) if item.words == group]
        if of:
            result[group] = sum(of) / len(of)
    return {k: v if isinstance(v, int) else round(v, 4) for k, v in result.items()}


def token_counts(tokenizer: Any, items: Sequence[SyntheticItem]) -> dict[str, dict[str, float | int]]:
    """Return mean and largest number of tokens of prompts (with BOS) and answers (with EOS)."""
    ask = [len(tokenizer(prompt(i.question)).input_ids) for i in items]
    full = [len(tokenizer(f"{prompt(i.question)} {i.answer}").input_ids) + 1 for i in items]
    answer = [f - a for f, a in zip(full, ask, strict=True)]
    return {k: {"mean": round(sum(v) / len(v), 1), "max": max(v)} for k, v in (("prompt", ask), ("answer", answer))}


def measure_target(model: PreTrainedModel, tokenizer: Any, items: Sequence[SyntheticItem]) -> dict[str, Any]:
    """Measure the target alone, after noise, and after notes that give the missing numbers."""
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
    for item in worded:  # the note at a random place amid noise, in all as long as a bridge's soft tokens
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
    """Measure the source alone, and linear probes of its layers."""
    from ray_bridge.embedded_pair.recipe.linear_probe import layer_probe

    return {
        "alone": accuracy(items, solve(model, tokenizer, prompts(model, tokenizer, items))),
        "probe": layer_probe(model, tokenizer, min(6000, 3 * len(items))),
    }


def measure(folder: Path, side: str, device: str, n: int) -> dict[str, Any]:
    """Return all figures of one saved checkpoint.

    Args:
        folder: the checkpoint.
        side: `source` or `target`.
        device: where it runs.
        n: number of test questions.
    """
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
    """Measure both models of a pair and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pair", type=Path, default=Path(__file__).parents[1], help="folder with source/ and target/")
    parser.add_argument("--n", type=int, default=2000, help="test questions")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    for side in ("source", "target"):
        print(side, json.dumps(measure(args.pair / side, side, args.device, args.n), indent=1))


if __name__ == "__main__":
    main()
