"""Notes before the question, from which the target learns to read numbers in context as a large model does.

A question with nonsense words in place of numbers can be answered only from a note that gives the numbers. A note is a
list of the missing numbers, the question in numerals, or its equations; it may be repeated or stretched, and is
surrounded by junk. Some notes are softened (`soften`): their embeddings become vectors of no token, as soft tokens are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ray_bridge.tasks.synthetic.problems import Problem

MAX_NOTE = 70
HARD, PAYLOAD, JUNK = 0, 1, 2

Encode = Callable[[str], list[int]]


def payload(rng: random.Random, problem: Problem, missing: Sequence[int], encode: Encode) -> list[int]:
    """Return at most MAX_NOTE tokens that give the missing numbers in order, in one of several forms.

    Args:
        rng: chooses the form.
        problem: the problem.
        missing: indices of its slots whose numbers the question does not show.
        encode: text to token ids.
    """
    u = rng.random()
    if u < 0.25:
        tokens = encode(problem.word())
        if rng.random() < 0.35 and len(tokens) < MAX_NOTE:
            length = rng.randint(len(tokens), MAX_NOTE)
            tokens = [tokens[i * len(tokens) // length] for i in range(length)]
        return tokens[:MAX_NOTE]
    if u < 0.32:
        equations = [e.split(" =")[0] for e in problem.equations]
        return encode(" " + rng.choice(("; ", ", ", "\n")).join(equations))[:MAX_NOTE]
    everything = rng.random() < 0.2
    values = [s.value for s in problem.slots] if everything else [problem.slots[i].value for i in missing]
    separator = rng.choice(("", "", ";", ",", " and", "\n", " |"))
    tokens = encode(separator.join(f" {v}" for v in values))
    if rng.random() < 0.6:
        gap = encode(rng.choice((";", ".", "\n"))) if rng.random() < 0.5 else []
        tokens = (tokens + gap) * rng.randint(1, max(1, MAX_NOTE // (len(tokens) + len(gap))))
    return tokens[:MAX_NOTE]


def note(
    rng: random.Random, tokens: list[int], soft: bool, junk_length: int, vocabulary: int
) -> tuple[list[int], list[int]]:
    """Put a payload at a random place amid junk.

    Args:
        rng: chooses the place and the junk.
        tokens: the payload, or an empty list.
        soft: whether `soften` will change the note.
        junk_length: number of junk tokens.
        vocabulary: size of the vocabulary from which junk is drawn.

    Returns:
        Token ids, and for each of them HARD, PAYLOAD or JUNK.
    """
    before = rng.randint(0, junk_length)
    if tokens and rng.random() < 0.3:
        before = rng.choice((0, junk_length))
    junk = [rng.randrange(3, vocabulary) for _ in range(junk_length)]
    ids = junk[:before] + tokens + junk[before:]
    kinds = [JUNK] * before + [PAYLOAD] * len(tokens) + [JUNK] * (junk_length - before)
    return ids, kinds if soft else [HARD] * len(ids)


def rms(x: Tensor) -> Tensor:
    """Return the root mean square over the last dimension, (..., d) -> (..., 1)."""
    return (x.float().pow(2).mean(-1, keepdim=True) + 1e-12).sqrt()  # a pad's embedding may be exactly 0


def soften(embeds: Tensor, kinds: Tensor, table: Tensor, generator: torch.Generator) -> Tensor:
    """Replace the embeddings of softened notes by vectors that belong to no token.

    Payload is scaled to the table's median RMS and blended with its right neighbour and with noise. Junk becomes
    Gaussian at that RMS, of which a part is common to the whole row, or a mixture of two tokens.

    Args:
        embeds: (B, S, d), token embeddings.
        kinds: (B, S), HARD, PAYLOAD or JUNK.
        table: (V, d), the embedding table.
        generator: draws the noise, on the embeddings' device.

    Returns:
        (B, S, d), unchanged where the kind is HARD.
    """
    B, S, d = embeds.shape
    device = embeds.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, device=device, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, generator=generator)

    unit = rms(table.detach()).median()
    soft = (kinds != HARD)[..., None]  # (B, S, 1)
    scaled = embeds * (unit / rms(embeds).clamp(min=1e-6))
    both = soft & torch.roll(soft, -1, 1)
    blend = 0.5 * uniform(B, 1, 1) * (uniform(B, 1, 1) < 0.4)
    mixed = torch.where(both, (1 - blend) * scaled + blend * torch.roll(scaled, -1, 1), scaled)  # (B, S, d)
    noise = normal(B, S, d)
    amount = 0.7 * uniform(B, 1, 1) * (uniform(B, 1, 1) < 0.7)
    read = (1 - amount) * mixed + amount * unit * noise
    common = uniform(B, 1, 1) * (uniform(B, 1, 1) < 0.5)
    junk = common.sqrt() * normal(B, 1, d) + (1 - common).sqrt() * noise
    share = uniform(B, S, 1)
    tokens = share * scaled + (1 - share) * torch.roll(scaled, 1, 0)
    junk = torch.where(uniform(B, 1, 1) < 0.7, junk, tokens)
    gain = torch.where(uniform(B, 1, 1) < 0.5, 1.0, 0.6 + 0.9 * uniform(B, 1, 1))
    vectors = torch.where((kinds == PAYLOAD)[..., None], read, junk)
    vectors = vectors * (gain * unit / rms(vectors).clamp(min=1e-6))
    return torch.where(soft, vectors.to(embeds.dtype), embeds)  # (B, S, d)
