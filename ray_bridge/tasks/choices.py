"""Multiple choice: the letter that an output names, and the choice that a table of likelihoods makes likeliest."""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

from ray_bridge.tasks.hotpotqa import normalised
from ray_bridge.tasks.task import Example, Score

LETTERS = string.ascii_uppercase

_OPEN = r"[*_`'\"(\[{$]{0,4}"
# A letter that stands for itself on the first line: alone, marked up, or followed by a mark. "A man" is none.
_FIRST = re.compile(
    rf"\s*{_OPEN}(?P<letter>[A-Z])(?:[.:;)\]}}*_`$'\"、。．：，]|,(?!\s?[A-Z]\b)|\s[-–—]\s|\s*(?:\n|$))"
)
_STATED = re.compile(
    rf"(?:answer|choice|option|答案|选项|选)(?:\s{{1,3}}(?:is|would be|must be))?\s{{0,3}}[:：是为]{{0,2}}\s{{0,3}}"
    rf"(?:\\boxed\{{|\\text\{{)?(?:option\s|choice\s)?{_OPEN}(?P<letter>[A-Z])(?![A-Za-z0-9'’])",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\s?\{(?:\\text\s?\{)?\s?\(?(?P<letter>[A-Z])\)?\}")
_BRACKETED = re.compile(r"[(\[](?P<letter>[A-Z])[)\]]")
_ROW = re.compile(r"(?P<letter>[A-Z]) (?P<total>-?\d+\.\d+) (?P<mean>-?\d+\.\d+)")


def lettered(choices: Sequence[str]) -> str:
    """Return choices as lines, each with its letter."""
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


def score_letter(text: str, example: Example) -> Score:
    r"""Score a generated answer to a question whose choices were shown with their letters.

    Strict: the answer begins with a letter that stands for itself (`B`, `(B)`, `B. Mars`). Flexible: the letter that is
    stated last (`the answer is B`, `\boxed{B}`), else that of the beginning, else the last one in brackets, else the
    only choice whose text is the answer.
    """
    letters = LETTERS[: len(example.choices)]
    strict = _letter(_FIRST.match(text), letters)
    stated = [m for pattern in (_STATED, _BOXED) for m in pattern.finditer(text) if _letter(m, letters)]
    flexible = _letter(max(stated, key=lambda m: m.start("letter")), letters) if stated else strict
    if flexible is None:
        bracketed = [letter for m in _BRACKETED.finditer(text) if (letter := _letter(m, letters))]
        flexible = bracketed[-1] if bracketed else chosen_text(text, example.choices)
    return _score(strict, flexible, example)


def chosen_text(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the only choice that the first line of a text consists of, or None."""
    line = normalised(text.strip().partition("\n")[0])
    same = [letter for letter, choice in zip(LETTERS, choices, strict=False) if line and normalised(choice) == line]
    return same[0] if len(same) == 1 else None


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """The log-likelihood of a choice as the continuation of a prompt.

    Attributes:
        total: in nats, over all its tokens.
        characters: length of the choice, by which lm-evaluation-harness's `acc_norm` divides.
    """

    total: float
    characters: int


def likelihood_table(likelihoods: Sequence[Likelihood]) -> str:
    """Return an output that says how likely each choice is: its letter, the total, and the total by character."""
    return "\n".join(
        f"{letter} {one.total:.4f} {one.total / max(one.characters, 1):.4f}"
        for letter, one in zip(LETTERS, likelihoods, strict=False)
    )


def score_likelihoods(text: str, example: Example) -> Score | None:
    """Score a table of likelihoods; None if the text is none.

    Strict: the likeliest choice (`acc` of lm-evaluation-harness). Flexible: the likeliest by character (`acc_norm`).
    """
    rows = [_ROW.fullmatch(line) for line in text.splitlines()]
    table = [(row["letter"], float(row["total"]), float(row["mean"])) for row in rows if row]
    if len(table) != len(rows) or "".join(row[0] for row in table) != LETTERS[: len(example.choices)]:
        return None
    by_total, by_character = max(table, key=lambda row: row[1]), max(table, key=lambda row: row[2])
    return _score(by_total[0], by_character[0], example)


def _letter(match: re.Match[str] | None, letters: str) -> str | None:
    return match["letter"] if match and match["letter"] in letters else None


def _score(strict: str | None, flexible: str | None, example: Example) -> Score:
    return Score(
        answer=strict,
        correct=strict is not None and strict == example.gold,
        flexible=flexible is not None and flexible == example.gold,
        valid=strict is not None,
    )
