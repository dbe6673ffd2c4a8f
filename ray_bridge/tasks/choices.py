"""Multiple choice: the letter that an output names, and the choice that a table of likelihoods makes likeliest."""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

from ray_bridge.tasks.hotpotqa import normalised
from ray_bridge.tasks.latex.boxes import boxed_answer
from ray_bridge.tasks.task import Example, Score

LETTERS = string.ascii_uppercase

_OPEN = r"[*_`'\"(\[{$]{0,4}"
_TEXT = r"\\(?:text|textbf|mathrm|mathbf)\s?\{\s?"
# A letter that stands for itself on the first line: alone, marked up, or followed by a mark. "A man" is none.
_FIRST = re.compile(
    rf"\s*{_OPEN}(?:{_TEXT})?{_OPEN}(?P<letter>[A-Z])"
    r"(?:(?P<mark>[.:;)\]}*_`$'\"、。．：，,]{1,6}|\s[-–—]\s)(?P<rest>[^\n]*)|[^\S\n]*(?:\n|$|</?\w{1,20}>|<\|\w{1,30}\|>))"
)
# Another letter beside it, as in `A. or B.`; "A man" and "I think" are words.
_OTHER = re.compile(r"(?<![A-Za-z0-9'’])(?![AI]\s[a-z])(?P<letter>[A-Z])(?![A-Za-z0-9'’])")
_BESIDE = r"(?!\s{0,3}(?:[,/&;+、或和及]|\b(?:or|and)\b)\s{0,3}(?:option\s|choice\s)?[*_`(\[]{0,3}[A-Z](?![A-Za-z]))"
_STATED = re.compile(
    rf"(?:answer|choice|option|答案|选项|选)(?:\s{{1,3}}(?:is|would be|must be))?\s{{0,3}}[:：是为]{{0,2}}\s{{0,3}}"
    rf"(?:\\boxed\{{|{_TEXT})?(?:option\s|choice\s)?{_OPEN}(?P<letter>[A-Z])(?![A-Za-z0-9'’])[*_`)\]}}]{{0,3}}+{_BESIDE}",
    re.IGNORECASE,
)
_BRACKETED = re.compile(rf"(?P<several>[)\]]\s?(?:[,/&;、或和及]|or|and)\s?)?[(\[](?P<letter>[A-Z])[)\]]{_BESIDE}")
_WRAPPED = re.compile(rf"{_TEXT}(?P<text>[^{{}}]*)\}}")
_ROW = re.compile(r"(?P<letter>[A-Z]) (?P<total>-?\d+\.\d+) (?P<mean>-?\d+\.\d+)")


def lettered(choices: Sequence[str]) -> str:
    """Return choices as lines, each with its letter."""
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


def score_letter(text: str, example: Example) -> Score:
    r"""Score a generated answer to a question whose choices were shown with their letters.

    Strict: the answer begins with a letter that stands for itself (`B`, `(B)`, `B. Mars`), and its line names no other
    letter. Flexible: the letter that is stated or boxed last (`the answer is B`, `\boxed{B. Mars}`), else that of the
    beginning, else the last one in brackets, else the only choice whose text the first line is.
    """
    letters = LETTERS[: len(example.choices)]
    strict = _leading(text, example.choices)
    stated = [(m.start("letter"), m["letter"]) for m in _STATED.finditer(text) if m["letter"] in letters]
    boxed = _boxed(text, example.choices)
    at = max(text.rfind(r"\boxed"), text.rfind(r"\fbox"))
    flexible = max([*stated, *([(at, boxed)] if boxed else [])])[1] if stated or boxed else strict
    if flexible is None:
        bracketed = [m for m in _BRACKETED.finditer(text) if m["letter"] in letters]
        last = bracketed[-1] if bracketed and not bracketed[-1]["several"] else None
        flexible = last["letter"] if last else None if bracketed else chosen_text(text, example.choices)
    return _score(strict, flexible, example)


def _leading(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter with which a text begins, or None if there is none, or the line names another letter too.

    The text of the letter's own choice may follow it, whatever it says: `B. Vitamin C`.
    """
    match = _FIRST.match(text)
    letters = LETTERS[: len(choices)]
    if match is None or match["letter"] not in letters:
        return None
    rest, own = (match["rest"] or "").strip(), choices[letters.index(match["letter"])]
    rest = rest[len(own) :] if rest.casefold().startswith(own.casefold()) else rest
    others = {m["letter"] for m in _OTHER.finditer(rest) if m["letter"] in letters}
    return match["letter"] if others <= {match["letter"]} else None


def _boxed(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter that the last box holds, alone or with its choice, or that of the choice that it holds."""
    box = boxed_answer(text)
    if box is None:
        return None
    inside = _WRAPPED.sub(r"\g<text>", box)
    return _leading(inside, choices) or chosen_text(inside, choices)


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


def _score(strict: str | None, flexible: str | None, example: Example) -> Score:
    return Score(
        answer=strict,
        correct=strict is not None and strict == example.gold,
        flexible=flexible is not None and flexible == example.gold,
        valid=strict is not None,
    )
