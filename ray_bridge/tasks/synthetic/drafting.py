"""Draft problems: a template draws the numbers and writes the solution, before the question is put into words.

In the question the numbers are numbered slots, so the same draft can be written with numerals, with words of the
lexicon, or with any other names of its numbers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Literal

from ray_bridge.tasks.synthetic.lexicon import Entry, lexicon

SlotKind = Literal["count", "times", "share", "days"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    "Tom Anna Ben Clara David Emma Felix Grace Henry Iris Jack Kate Leo Mia Noah Olga Paul Rosa Sam Tina Victor "
    "Wendy Adam Bella Carl Diana Erik Fiona George Hanna Ivan Julia"
)
ITEMS = _words(
    "apples pears books cards coins shells stamps cookies eggs candles buttons toys lemons plums beads ribbons "
    "magnets badges bricks cups plates spoons hats kites lamps bottles bells drums tickets medals melons nuts"
)
BOXES = _words("boxes bags baskets crates jars packs trays")
PEOPLE = _words("friends cousins children students guests players")

MAX_RESULT = 299


class RejectedError(Exception):
    """The numbers drawn make no sensible problem; draw again."""


@dataclass(slots=True)
class Slot:
    """A number of the question; formatting it gives its placeholder, such as `{0}`."""

    index: int
    kind: SlotKind
    value: int

    def __format__(self, _: str) -> str:
        return f"{{{self.index}}}"

    def numeral(self) -> str:
        """Return the slot's phrase in numerals."""
        if self.kind == "count":
            return str(self.value)
        if self.kind == "times":
            return f"{self.value} times"
        return f"1/{self.value}" if self.kind == "share" else f"{self.value} days"


@cache
def phrases(kind: SlotKind, value: int, transfer: bool) -> tuple[str, ...]:
    """Return the lexicon's phrases that fit a slot of a kind and value: those withheld from training, or the others."""
    allowed = {
        "count": {"cardinal": "", "dozen": ""},
        "times": {"multiplier": "", "cardinal": " times"},
        "share": {"fraction": ""},
        "days": {"duration": "", "cardinal": " days"},
    }[kind]

    def fits(e: Entry) -> bool:
        return e.kind in allowed and e.value == value and e.value > 1 and e.transfer == transfer

    return tuple(e.text + allowed[e.kind] for e in lexicon() if fits(e))


class Draft:
    """A problem while it is written: draws names and numbers, and collects the sentences of the solution."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.slots: list[Slot] = []
        self.lines: list[str] = []
        self.equations: list[str] = []
        self.result = 0
        i, j = rng.randrange(len(NAMES)), rng.randrange(len(NAMES) - 1)
        self.A, self.B = NAMES[i], NAMES[j + (j >= i)]
        i, j = rng.randrange(len(ITEMS)), rng.randrange(len(ITEMS) - 1)
        self.x, self.y = ITEMS[i], ITEMS[j + (j >= i)]
        self.box = rng.choice(BOXES)
        self.people = rng.choice(PEOPLE)

    def _slot(self, kind: SlotKind, value: int) -> Slot:
        slot = Slot(len(self.slots), kind, value)
        self.slots.append(slot)
        return slot

    def count(self, low: int, high: int) -> Slot:
        """Draw a number of things between two bounds, both included."""
        if high < low:
            raise RejectedError
        return self._slot("count", low + int(self.rng.random() * (high - low + 1)))

    def multiple(self, of: int, low: int, high: int) -> Slot:
        """Draw a number of things between two bounds that is a multiple of `of`."""
        first, last = -(-low // of), high // of
        if last < first:
            raise RejectedError
        return self._slot("count", of * self.rng.randint(first, last))

    def given(self, value: int) -> Slot:
        """Add a number of things that the template has fixed."""
        if value < 2:
            raise RejectedError
        return self._slot("count", value)

    def times(self, high: int = 9) -> Slot:
        """Draw a factor, from 2: "3 times", "thrice"."""
        return self._slot("times", self.rng.randint(2, high))

    def share(self, divisor: int) -> Slot:
        """Add a unit fraction, given by its divisor: "1/3", "a third"."""
        return self._slot("share", divisor)

    def days(self, high: int = 21) -> Slot:
        """Draw a duration in days, half of the time in whole weeks."""
        if self.rng.random() < 0.5:
            return self._slot("days", 7 * self.rng.randint(1, max(1, high // 7)))
        return self._slot("days", self.rng.randint(2, min(high, 20)))

    def step(self, before: str, a: Slot | int, op: str, b: Slot | int, after: str) -> int:
        """Write one sentence of the solution and return its result.

        Raises:
            RejectedError: if the result is not a whole number between 1 and 299.
        """
        x = a.value if isinstance(a, Slot) else a
        y = b.value if isinstance(b, Slot) else b
        if op == "+":
            value = x + y
        elif op == "-":
            value = x - y
        elif op == "*":
            value = x * y
        else:
            value, rest = divmod(x, y)
            if rest:
                raise RejectedError
        if not 1 <= value <= MAX_RESULT:
            raise RejectedError
        equation = f"{x} {op} {y} = {value}"
        self.equations.append(equation)
        self.lines.append(f"{before} {equation} {after}.")
        self.result = value
        return value
