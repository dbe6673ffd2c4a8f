"""The synthetic task: grade-school problems in GSM8K's answer format, some numbers of which are written as words.

Which split a problem belongs to follows from a hash of its question in numerals, so the splits (and the corpora
that the embedded pair was trained on) share no question, and no list of them has to be carried along.
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

# Sixteenths of all questions: 0..5 pretraining of the pair, 6..11 training of the bridge, then validation and test.
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
        id: Stable name within the split: "synthetic-test-000123".
        question: The question as it is asked.
        answer: The solution, one sentence a step, ending in "#### gold".
        gold: The result, in digits.
        words: Whether the question holds no number word, words that the bridge's training shows, or withheld ones.
        word_values: What those words stand for, in the order of the question.
        numeral_question: The same question with numerals only.
        template: Which template wrote it.
        steps: Number of equations in the solution.
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
    """A problem before it is worded: a question with slots, and its solution."""

    pattern: str
    slots: tuple[Slot, ...]
    answer: str
    equations: tuple[str, ...]
    result: int
    template: str

    def word(self, phrase: Callable[[Slot], str] = Slot.numeral) -> str:
        """The question with each slot written by a function; numerals by default."""
        return self.pattern.format(*[phrase(s) for s in self.slots])

    @property
    def split(self) -> Split:
        """The split that the question in numerals falls into."""
        return split_of(self.word())


def split_of(numeral_question: str) -> Split:
    """The split that a question in numerals belongs to: the low four bits of its CRC-32."""
    return _SPLIT_OF_HASH[zlib.crc32(numeral_question.encode()) & 15]


def prompt(question: str) -> str:
    """The text a model is asked; its answer follows as " " + answer."""
    return f"Question: {question}\nAnswer:"


def _renumbered(pattern: str) -> str:
    """The pattern with its slots numbered from left to right."""
    numbers = itertools.count()
    return _SLOT.sub(lambda _: f"{{{next(numbers)}}}", pattern)


def draw_problem(rng: random.Random, templates: Sequence[str] = _NAMES) -> Problem:
    """Draws one problem of any split."""
    while True:
        name = templates[int(rng.random() * len(templates))]
        draft = Draft(rng)
        try:
            pattern = TEMPLATES[name](draft)
        except RejectedError:
            continue
        # Slots are numbered as they were drawn; a problem counts them as they are read.
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
    """Picks one or two slots and a phrase for each, all of them withheld or all of them not.

    Returns:
        Phrases by slot index, or None when no slot of the problem has such a phrase.
    """
    options = [(s.index, found) for s in problem.slots if (found := phrases(s.kind, s.value, transfer))]
    if not options:
        return None
    number = 2 if len(options) > 1 and rng.random() < _TWO_WORDS else 1
    return {index: rng.choice(found) for index, found in rng.sample(options, number)}


def worded(problem: Problem, words: dict[int, str]) -> str:
    """The question with the given phrases in their slots and numerals elsewhere."""
    return problem.word(lambda s: words.get(s.index) or s.numeral())


def problems(split: Split, rng: random.Random) -> Iterator[Problem]:
    """An endless stream of the problems of one split."""
    while True:
        problem = draw_problem(rng)
        if problem.split == split:
            yield problem


def make_examples(
    split: Split, n: int, seed: int, *, word_share: float = WORD_SHARE, transfer_share: float | None = None
) -> list[SyntheticItem]:
    """The first n problems of a split's stream; a shorter list is a prefix of a longer one.

    Args:
        split: Which questions to draw from. "pretraining" is what the embedded pair was trained on.
        n: How many.
        seed: Seed of the stream.
        word_share: Share of items that hold number words. An item in numerals teaches a bridge only to keep
            out of the way, so its training may want more words than the default.
        transfer_share: Share of those whose words are all withheld ones. By default 0.4, but none in "train".

    Raises:
        ValueError: The bridge's training split was asked for withheld words, or the split is unknown.
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
