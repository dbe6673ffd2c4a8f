"""Multiple choice: the letter that an output names, and the choice that a table of likelihoods makes likeliest."""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

from ray_bridge.tasks.hotpotqa import normalised
from ray_bridge.tasks.latex.boxes import boxed_answer
from ray_bridge.tasks.task import Example, Score

LETTERS = string.ascii_uppercase
_FULL_WIDTH = {ord(letter) + 0xFEE0: letter for letter in LETTERS}

_OPEN = r"[*_`'\"(\[{$]{0,4}"
_TEXT = r"\\(?:text|textbf|mathrm|mathbf)\s?\{\s?"
# A letter that stands for itself on the first line: alone, marked up, or followed by a mark. "A man" is none, nor are
# "C'est", "C.elegans" and "A.M.".
_FIRST = re.compile(
    rf"\s*{_OPEN}(?:{_TEXT})?{_OPEN}(?P<letter>[A-Z])"
    r"(?:(?P<mark>(?!['’_$*`\"]+\w)[.:;)\]}*_`$'\"、。．：，,]{1,6}|\s[-–—]\s)(?P<rest>[^\n]*)"
    r"|[^\S\n]*(?:\n|$|</?\w{1,20}>|<\|\w{1,30}\|>))"
)
_GLUED = re.compile(r"[a-z\d\\]|[A-Z]\b")  # right after the mark, it belongs to the letter: C.elegans, A.M., C:\
# Another letter beside it, as in `A. or B.`; "A man" and "I think" are words.
_ALONE = r"(?-i:(?![AI],?\s[a-z])[A-Z])(?![A-Za-z0-9'’])"
_OTHER = re.compile(rf"(?<![A-Za-z0-9'’])(?P<letter>{_ALONE})")
_BESIDE = rf"(?!\s{{0,3}}(?:[,/&;+、或和及]|\b(?:or|and)\b)\s{{0,3}}(?:option\s|choice\s)?[*_`(\[]{{0,3}}{_ALONE})"
_LETTER = (
    rf"(?:\\boxed\{{|{_TEXT})?{_OPEN}(?-i:(?P<letter>[A-Z]))(?![A-Za-z0-9'’])"
    # "The answer is A planet" has an article, "The answer is A because ..." a letter.
    r"(?-i:(?!(?<=A)\s(?!(?:and|as|because|but|by|due|for|from|if|in|is|not|or|since|which|with)\b)[a-z]))"
    r"[*_`)\]}]{0,3}+"
)
_IS = (
    r"(?:\s{1,3}(?:is|was|(?:would|must|should|will|has\sto)\sbe))?"
    r"[*_\"'>]{0,3}\s{0,3}[:：是为=]{0,2}[*_]{0,3}\s{0,3}"
)
# What says which letter is the answer counts before what only speaks of an option.
_STATED = re.compile(
    rf"(?:answer|correct\s(?:choice|option)|答案|选项|选){_IS}(?:option\s|choice\s)?{_LETTER}{_BESIDE}", re.IGNORECASE
)
_RIGHT = re.compile(
    r"(?<![A-Za-z0-9'’])[(\[*_]{0,3}(?P<letter>[A-Z])[*_)\]]{0,3}\s(?:is|would be|must be)\s"
    r"(?:(?:the|indeed|therefore)\s)?(?:(?:single|only|most)\s)?(?:correct|right|best)\b"
)
_SPOKEN_OF = re.compile(rf"(?<!not\s)(?:choice|option){_IS}{_LETTER}{_BESIDE}", re.IGNORECASE)
_DENIED = re.compile(
    r"(?:[^\S\n]*\([^()\n]{0,80}\))?\s(?:is|are|was|would\sbe|seems)\s(?:\w{3,10}ly\s)?"
    r"(?:not|wrong|incorrect|false|excluded|impossible|ruled\sout)\b|\s(?:isn|wasn|doesn|can|don)['’]?t\b|\scannot\b"
)
_DOUBTED = re.compile(
    r"(?:n['’]t|\bnot|\bnever)\s(?:(?:think|believe|say|mean|sure|true|that|the|best|right|correct)\s)*$"
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
    letter. Flexible: the letter that is stated or boxed last (`the answer is B`, `B is correct`, `\boxed{B. Mars}`),
    else that of the beginning, else the last option that is spoken of and not denied (`option B`), else the last letter
    in brackets, else the only choice whose text the first line is.
    """
    text = text.translate(_FULL_WIDTH)
    letters = LETTERS[: len(example.choices)]
    strict = _leading(text, example.choices)
    stated = _stated(text, letters)
    if boxed := _boxed(text, example.choices):
        stated.append((max(text.rfind(r"\boxed"), text.rfind(r"\fbox")), boxed))
    flexible = max(stated)[1] if stated else strict
    if flexible is None and (options := _named(_SPOKEN_OF, text, letters)):
        flexible = max(options)[1]
    if flexible is None:
        bracketed = [m for m in _BRACKETED.finditer(text) if m["letter"] in letters]
        last = bracketed[-1] if bracketed and not bracketed[-1]["several"] else None
        flexible = last["letter"] if last else None if bracketed else chosen_text(text, example.choices)
    return _score(strict, flexible, example)


def stated_letter(text: str) -> str | None:
    """Return the letter that a text last states as its answer (`the answer is (B)`, `B is correct`); None if none."""
    stated = _stated(text, LETTERS)
    return max(stated)[1] if stated else None


def _stated(text: str, letters: str) -> list[tuple[int, str]]:
    return [*_named(_STATED, text, letters), *_named(_RIGHT, text, letters)]


def _named(pattern: re.Pattern[str], text: str, letters: str) -> list[tuple[int, str]]:
    """Return the letters that a pattern finds, each with its place, without those that the text denies beside it."""
    matches = [match for match in pattern.finditer(text) if match["letter"] in letters]
    held = [m for m in matches if not _DOUBTED.search(text[max(0, m.start() - 40) : m.start()])]
    return [(m.start("letter"), m["letter"]) for m in held if not _DENIED.match(text, m.end())]


def _leading(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter with which a text begins, or None if there is none, or the line names another letter too.

    The text of the letter's own choice may follow it, whatever it says: `B. Vitamin C`.
    """
    match = _FIRST.match(text)
    letters = LETTERS[: len(choices)]
    if match is None or match["letter"] not in letters:
        return None
    rest, own = match["rest"] or "", choices[letters.index(match["letter"])]
    if rest.strip().casefold().startswith(own.casefold()):
        rest = rest.strip()[len(own) :]
    elif _GLUED.match(rest):
        return None
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
