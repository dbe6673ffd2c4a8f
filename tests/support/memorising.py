"""Models that know some answers by heart, so that a small job has outputs that are right, wrong and almost right."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy


def memorise(folder: Path, answers: Mapping[str, str], steps: int = 120) -> None:
    """Train a checkpoint in place until it continues each prompt with its answer and then ends.

    Args:
        folder: a small checkpoint with its tokenizer.
        answers: continuations by prompt.
        steps: of Adam on all of them.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).float()
    rows = []
    for prompt, answer in answers.items():
        asked = tokenizer(prompt)["input_ids"]
        rows.append((asked, [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]))
    longest = max(len(asked) + len(answer) for asked, answer in rows)
    ids = torch.full((len(rows), longest), tokenizer.eos_token_id)  # (B, S)
    labels = torch.full_like(ids, -100)  # (B, S)
    for row, (asked, answer) in enumerate(rows):
        whole = torch.tensor([*asked, *answer])
        ids[row, : len(whole)] = whole
        labels[row, len(asked) : len(whole)] = whole[len(asked) :]
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(steps):
        logits = model(input_ids=ids).logits[:, :-1]  # (B, S - 1, V); pads come last, where no label sees them
        loss = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss.item() < 1e-3:
            break
    model.eval().save_pretrained(folder)
