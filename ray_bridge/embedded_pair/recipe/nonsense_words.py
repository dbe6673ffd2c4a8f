"""Nonsense words in place of numbers, from which the target learns that it cannot read a number.

To the target, number words have to be what a foreign language is to a model that never saw it. In its pretraining their
places have random pronounceable strings, never a word of the lexicon.
"""

from __future__ import annotations

import random

from ray_bridge.tasks.synthetic.drafting import Slot
from ray_bridge.tasks.synthetic.lexicon import vocabulary


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ONSETS = (*_words("b c d f g h k l m n p q r s t v w z ch sch tr dr fr sp st qu tw th fl zw br gr"), *("",) * 4)
_VOWELS = (*_words("a e i o u y ee ie ei ue oe au io uo ia ou"), *"aeiou" * 2)
_CODAS = (*_words("n r l s t x f ss tt ck nd ht gh lf"), *("",) * 12)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def word(rng: random.Random) -> str:
    """Return a nonsense word of one to six syllables, or, in one case of eight, of random letters."""
    while True:
        if rng.random() < 0.125:
            text = "".join(rng.choices(_LETTERS, k=rng.randint(2, 9)))
        else:
            count = rng.choice((1, 1, 2, 2, 3, 3, 4, 5, 6))
            text = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(count))
        if text not in vocabulary():
            return text


def phrase(rng: random.Random, slot: Slot) -> str:
    """Return nonsense words for a slot, in the forms of the lexicon's phrases: compounds, articles, units."""
    u = rng.random()
    text = word(rng) if u < 0.62 else f"{word(rng)}-{word(rng)}" if u < 0.82 else f"{word(rng)} {word(rng)}"
    if rng.random() < 0.12:
        text = f"{'an' if text[0] in 'aeiou' else 'a'} {text}"
    if slot.kind == "times" and rng.random() < 0.6:
        return text + " times"
    if slot.kind == "days" and rng.random() < 0.5:
        return text + " days"
    return text
