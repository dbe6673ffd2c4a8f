"""Linear probes of the source: at which layer the value of a number word can be read, also of a transfer word.

A ridge regression onto one-hot digits is fitted on numerals and on words of the bridge's training split, and tested on
these and on transfer words. It shows which layer a bridge should read (`source_layer`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ray_bridge.tasks.synthetic.problems import SyntheticItem, make_examples, prompt


def _word_end(item: SyntheticItem) -> tuple[int, int] | None:
    """Return end offset and value of the number that a question writes as a word; None if that is not one number."""
    asked, full = item.question, item.numeral_question
    left = 0
    while left < min(len(asked), len(full)) and asked[left] == full[left]:
        left += 1
    right = 0
    while right < min(len(asked), len(full)) - left and asked[-1 - right] == full[-1 - right]:
        right += 1
    while left > 0 and full[left - 1].isdigit():
        left -= 1
    phrase, value = asked[left : len(asked) - right], full[left : len(full) - right]
    if not value.isdigit() or not phrase or phrase[0].isdigit():
        return None
    return len(asked) - right, int(value)


def _number_ends(item: SyntheticItem) -> list[tuple[int, int]]:
    """Return end offset and value of each numeral below 100 that is no part of a fraction."""
    numerals = re.finditer(r"(?<![\d/])(\d+)(?![\d/])", item.question)
    return [(m.end(), int(m.group(1))) for m in numerals if int(m.group(1)) < 100]


@torch.no_grad()
def _states(model: PreTrainedModel, ids: Sequence[list[int]], batch: int = 250) -> list[list[Tensor]]:
    """Return the hidden states (S, d) of each prompt at every layer, by prompt and layer."""
    result: list[list[Tensor]] = []
    device = model.get_input_embeddings().weight.device
    for i in range(0, len(ids), batch):
        part = ids[i : i + batch]
        longest = max(map(len, part))
        padded = torch.tensor([[*p, *[0] * (longest - len(p))] for p in part], device=device)
        mask = torch.tensor([[1] * len(p) + [0] * (longest - len(p)) for p in part], device=device)
        states = model(input_ids=padded, attention_mask=mask, output_hidden_states=True).hidden_states
        result += [[h[j, : len(p)].float() for h in states] for j, p in enumerate(part)]
    return result


def _ridge(x: Tensor, y: Tensor, strength: float = 1e-2) -> tuple[Tensor, Tensor, Tensor]:
    """Fit weights from standardised features (N, d) to one-hot targets (N, c); return them, mean and scale."""
    mean, scale = x.mean(0), x.std(0).clamp(min=1e-6)
    z = torch.cat([(x - mean) / scale, x.new_ones(len(x), 1)], 1)
    gram = z.T @ z + strength * len(z) * torch.eye(z.shape[1], device=z.device)
    return torch.linalg.solve(gram, z.T @ y), mean, scale


def _probe_accuracy(train: tuple[Tensor, Tensor], tests: dict[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Fit a probe on states (N, d) and values (N,), and return its accuracy on each test set, by name."""
    x, value = train
    onehot = torch.nn.functional.one_hot
    target = torch.cat([onehot(value // 10, 10), onehot(value % 10, 10)], 1).float()
    weight, mean, scale = _ridge(x, target)
    result = {}
    for name, (features, truth) in tests.items():
        z = torch.cat([(features - mean) / scale, features.new_ones(len(features), 1)], 1)
        out = z @ weight
        right = (out[:, :10].argmax(1) == truth // 10) & (out[:, 10:].argmax(1) == truth % 10)
        result[name] = round(float(right.float().mean()), 4)
    return result


def layer_probe(model: PreTrainedModel, tokenizer: Any, n: int) -> dict[str, list[dict[str, float]]]:
    """Measure at every layer how well a linear probe reads a number's tens and units.

    Probes are fitted on one half of the items, without transfer words, and tested on the other half and on all
    transfer words.

    Args:
        model: the source.
        tokenizer: its tokenizer.
        n: number of problems.

    Returns:
        Accuracies by layer (0: embeddings), by kind of number: under "token" from the state of the number's last
        token, under "mean" from the mean over the prompt's tokens, as a bridge pools them.
    """
    items = make_examples("validation", n, 17, word_share=0.8)
    encoded = [tokenizer(prompt(i.question), return_offsets_mapping=True) for i in items]
    states = _states(model, [e.input_ids for e in encoded])
    shift = len("Question: ")
    half = len(items) // 2
    layers = len(states[0])
    points: dict[tuple[str, str], list[tuple[int, int, int]]] = {}
    for k, (item, e) in enumerate(zip(items, encoded, strict=True)):
        ends = {end: at for at, (_, end) in enumerate(e.offset_mapping)}
        word = _word_end(item) if item.words != "none" else None
        part = "fit" if k < half else "test"
        if word and part == "fit" and item.words == "seen":
            points.setdefault(("token", "fit"), []).append((k, ends[word[0] + shift], word[1]))
            points.setdefault(("mean", "fit"), []).append((k, -1, word[1]))
        if word and (part == "test" or item.words == "transfer"):
            points.setdefault(("token", item.words), []).append((k, ends[word[0] + shift], word[1]))
            points.setdefault(("mean", item.words), []).append((k, -1, word[1]))
        if item.words == "none":
            for end, value in _number_ends(item):
                name = "fit" if part == "fit" else "numerals"
                points.setdefault(("token", name), []).append((k, ends[end + shift], value))

    def gather(name: tuple[str, str], layer: int) -> tuple[Tensor, Tensor]:
        x = [states[k][layer].mean(0) if at < 0 else states[k][layer][at] for k, at, _ in points[name]]
        return torch.stack(x), torch.tensor([v for *_, v in points[name]], device=x[0].device)

    result: dict[str, list[dict[str, float]]] = {"token": [], "mean": []}
    for layer in range(layers):
        for reading, rows in result.items():
            tests = {g: gather((r, g), layer) for r, g in points if r == reading and g != "fit"}
            rows.append(_probe_accuracy(gather((reading, "fit"), layer), tests))
    return result
