"""Generate grade-school problems in GSM8K's answer format, some of whose numbers are written as words.

A hash of the question in numerals decides its split, so the splits, and the corpora that the embedded pair was trained
on, share no question, and no list of questions has to be kept.
"""

from __future__ import annotations

import itertools
import random
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ray_bridge.tasks.synthetic.drafting import Draft, RejectedError, Slot, phrases
from ray_bridge.tasks.synthetic.templates import TEMPLATES

Split = Literal["train", "validation", "test", "pretraining"]
WordGroup = Literal["none", "seen", "transfer"]

# By sixteenths of the hash: 0..5 pretraining of the pair, 6..11 training of the bridge, then validation and test.
_SPLIT_OF_HASH: tuple[Split, ...] = ("pretraining",) * 6 + ("train",) * 6 + ("validation",) * 2 + ("test",) * 2
_NAMES = tuple(TEMPLATES)
_SLOT = re.compile(r"\{(\d+)\}")

WORD_SHARE = 0.45
TRANSFER_SHARE = 0.4
_TWO_WORDS = 0.27  # a few problems have no second slot that can be worded: gives a quarter of the word items


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticItem:
    """One problem.

    Attributes:
        id: stable name, such as "synthetic-test-000123".
        question: the question as it is asked.
        answer: the solution, one sentence a step, ending in "#### gold".
        gold: the result, in digits.
        words: number words of the question: none, words that the bridge is trained on (seen), or withheld ones.
        word_values: values of those words, in the order of the question.
        numeral_question: the same question with numerals only.
        template: name of its template.
        steps: number of equations in the solution.
    """

    id: str
    question: str
    answer: str
    gold: str
    words: WordGroup
    word_values: tuple[int, ...]
    numeral_question: str
    template: str
    steps: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A problem whose question still has slots for its numbers, with its solution."""

    pattern: str
    slots: tuple[Slot, ...]
    answer: str
    equations: tuple[str, ...]
    result: int
    template: str

    def word(self, phrase: Callable[[Slot], str] = Slot.numeral) -> str:
        """Return the question with each slot written by a function; by default, in numerals."""
        return self.pattern.format(*[phrase(s) for s in self.slots])

    @property
    def split(self) -> Split:
        """Return the split of the question in numerals."""
        return split_of(self.word())


def split_of(numeral_question: str) -> Split:
    """Return the split of a question in numerals, by the low four bits of its CRC-32."""
    return _SPLIT_OF_HASH[zlib.crc32(numeral_question.encode()) & 15]


def prompt(question: str) -> str:
    """Return the prompt of a question; the answer follows as " " + answer."""
    return f"Question: {question}\nAnswer:"


def _renumbered(pattern: str) -> str:
    """Return a pattern with its slots numbered from left to right."""
    numbers = itertools.count()
    return _SLOT.sub(lambda _: f"{{{next(numbers)}}}", pattern)


def draw_problem(rng: random.Random, templates: Sequence[str] = _NAMES) -> Problem:
    """Draw a problem of any split."""
    while True:
        name = templates[int(rng.random() * len(templates))]
        draft = Draft(rng)
        try:
            pattern = TEMPLATES[name](draft)
        except RejectedError:
            continue
        # Slots are numbered in the order of drawing; a problem numbers them in the order of reading.
        order = [int(i) for i in _SLOT.findall(pattern)]
        slots = [draft.slots[i] for i in order]
        for index, slot in enumerate(slots):
            slot.index = index
        return Problem(
            pattern=pattern if order == sorted(order) else _renumbered(pattern),
            slots=tuple(slots),
            answer="\n".join(draft.lines) + f"\n#### {draft.result}",
            equations=tuple(draft.equations),
            result=draft.result,
            template=name,
        )


def choose_words(rng: random.Random, problem: Problem, transfer: bool) -> dict[int, str] | None:
    """Pick one or two slots and a phrase for each; all phrases are withheld ones, or none is.

    Returns:
        Phrases by slot index, or None if no slot of the problem has such a phrase.
    """
    options = [(s.index, fitting) for s in problem.slots if (fitting := phrases(s.kind, s.value, transfer))]
    if not options:
        return None
    number = 2 if len(options) > 1 and rng.random() < _TWO_WORDS else 1
    return {index: rng.choice(fitting) for index, fitting in rng.sample(options, number)}


def worded(problem: Problem, words: dict[int, str]) -> str:
    """Return the question with the given phrases in their slots and numerals in the others."""
    return problem.word(lambda s: words.get(s.index) or s.numeral())


def problems(split: Split, rng: random.Random) -> Iterator[Problem]:
    """Yield problems of one split without end."""
    while True:
        problem = draw_problem(rng)
        if problem.split == split:
            yield problem


def make_examples(
    split: Split, n: int, seed: int, *, word_share: float = WORD_SHARE, transfer_share: float | None = None
) -> list[SyntheticItem]:
    """Return the first n problems of a split's stream; a shorter list is a prefix of a longer one.

    Args:
        split: the split to draw from; the embedded pair was trained on "pretraining".
        n: number of problems.
        seed: seed of the stream.
        word_share: share of items with number words. The target solves items in numerals by itself, so training a
            bridge may need more words than the default.
        transfer_share: share of those whose words are all withheld ones; by default 0.4, but 0 for "train".

    Raises:
        ValueError: if the split is unknown, or withheld words are requested for "train".
    """
    if split not in _SPLIT_OF_HASH:
        raise ValueError(f"unknown split {split!r}: choose train, validation or test")
    if transfer_share is None:
        transfer_share = 0.0 if split == "train" else TRANSFER_SHARE
    if split == "train" and transfer_share > 0:
        raise ValueError("the training split never holds transfer words: leave transfer_share at 0")
    rng = random.Random(f"{split}-{seed}")
    items: list[SyntheticItem] = []
    seen: set[str] = set()
    stream = problems(split, rng)
    while len(items) < n:
        group: WordGroup = "none"
        if rng.random() < word_share:
            group = "transfer" if rng.random() < transfer_share else "seen"
        while True:
            problem = next(stream)
            numeral_question = problem.word()
            words = {} if group == "none" else choose_words(rng, problem, group == "transfer")
            if words is not None and numeral_question not in seen:
                break
        seen.add(numeral_question)
        items.append(
            SyntheticItem(
                id=f"synthetic-{split}-{len(items):06d}",
                question=worded(problem, words),
                answer=problem.answer,
                gold=str(problem.result),
                words=group,
                word_values=tuple(problem.slots[i].value for i in sorted(words)),
                numeral_question=numeral_question,
                template=problem.template,
                steps=len(problem.equations),
            )
        )
    return items
