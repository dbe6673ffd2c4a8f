"""Decide which letter a text settles on: the last that it states, unless it takes that back."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ray_bridge.tasks.judged import Option, begins_with_options, judged_lines, option_lines
from ray_bridge.tasks.letters import (
    LETTERS,
    Named,
    alone,
    at_once,
    bracketed,
    concluded,
    leading_letter,
    plain,
    refuted,
    spoken_of,
    stated,
)
from ray_bridge.tasks.revisions import is_asserted, turns

_NEAR = 100  # characters between a letter and the words that take it back
_MENTION = re.compile(
    r"(?<![A-Za-z0-9'])[A-Z](?![A-Za-z0-9'])(?!(?<=[AI])\s(?!(?:is|was|says|said|or|and|nor|because|as|has|would)\b)[a-z])"
)
_ANSWER_IS = r"((?:\banswer(?:\sis\b:?|:)|答案(?:应?该?是|为)?:?)[\s\"'(]{0,4})"
_STATED, _LEADING, _CONCLUDED, _SPOKEN_OF, _BRACKETED = 4, 3, 2, 1, 0  # strength
_FINDERS = (
    (_STATED, stated),
    (_CONCLUDED, concluded),
    (_STATED, alone),
    (_SPOKEN_OF, spoken_of),
    (_BRACKETED, bracketed),
)


@dataclass(frozen=True, kw_only=True)
class _Claim:
    strength: int
    at: int
    letter: str | None


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What a text settles on.

    Attributes:
        letter: None if there is none, or several together.
        is_stated: whether the text states it or concludes with it, rather than begins with it or only speaks of it.
        taken_back: the part of the text that follows the words with which it takes back its only answer, without
            naming another letter; empty if it takes none back.
        says_nothing: whether the text names no letter at all.
    """

    letter: str | None
    is_stated: bool = False
    taken_back: str = ""
    says_nothing: bool = False


def settled(text: str, choices: Sequence[str], boxed: Iterable[Named] = ()) -> Settled:
    """Return the letter on which a text settles.

    The text is divided where it reconsiders ("wait", "but", "no"). In a part counts the letter stated or boxed last, or
    that is a sentence of its own, else that of the beginning, else the last with which a clause concludes, else the
    last that is spoken of, else the last in brackets. A later part replaces the answer if it states one or concludes
    with it. "No" or "that is wrong" right after an answer takes it back, and then any letter counts that the next part
    names. A letter of which the text says later that it is wrong is no answer. Of options that are judged line by
    line the one that is judged right is stated.

    Args:
        text: in plain notation, without the choices' texts after their letters (`without_choice_texts`).
        choices: the choices.
        boxed: the letter of the last box, with its place in the text.
    """
    letters = LETTERS[: len(choices)]
    options = option_lines(text, letters)
    begins_with_list = begins_with_options(text, options)
    claims = _claims(text, letters, options, options[:begins_with_list])
    claims += [_Claim(strength=_STATED, at=one.at, letter=one.letter) for one in boxed]
    claims.sort(key=lambda claim: claim.at)
    places = [claim.at for claim in claims]

    names = {letter: plain(choice).strip().casefold() for letter, choice in zip(letters, choices, strict=False)}
    answer: _Claim | None = None
    taken_back = ""
    divisions = turns(text)
    begins = [0, *(turn.end for turn in divisions)]
    for (begin, end), turn in zip(pairwise([*begins, len(text)]), [None, *divisions], strict=True):
        if turn and turn.takes_back and answer and _is_next_to(text, answer, turn.start, names):
            answer, taken_back = None, text[begin:]
        part = claims[bisect_left(places, begin) : bisect_left(places, end)]
        if answer is None:
            part += [] if begins_with_list else _leading(text, begin, end, choices)
        elif turn and (letter := at_once(text[begin:end], letters)):
            part.append(_Claim(strength=_CONCLUDED, at=begin, letter=letter))
        least = 0 if answer is None else min(_CONCLUDED, answer.strength)
        likeliest = sorted((c for c in part if c.strength >= least), key=lambda c: (c.strength, c.at), reverse=True)
        answer = next((c for c in likeliest if c.strength == _LEADING or is_asserted(text, c.at)), answer)
    if answer and any(one.letter == answer.letter and one.at > answer.at for one in refuted(text, letters)):
        return Settled(letter=None)
    if answer is None:
        return Settled(letter=None, taken_back=taken_back, says_nothing=not claims)
    is_stated = answer.strength in (_STATED, _CONCLUDED) or (answer.strength == _LEADING and answer.at > 0)
    return Settled(letter=answer.letter, is_stated=is_stated)


def _claims(text: str, letters: str, options: Sequence[Option], unclaimed: Sequence[Option]) -> list[_Claim]:
    """Return what a text claims of letters: its words, and the one option of a judged list that is called right.

    A letter with which a line begins is no sentence of its own if the line is judged, or beside one that is called
    right, or in `unclaimed`.
    """
    judged = judged_lines(options)
    right = [one for one in judged if one.is_right]
    listed = {one.at for one in judged if right or one.is_right is False} | {one.at for one in unclaimed}
    only = right[0].letter if len({one.letter for one in right}) == 1 else None
    claims = [
        _Claim(strength=strength, at=one.at, letter=one.letter)
        for strength, find in _FINDERS
        for one in find(text, letters)
        if find is not alone or one.at not in listed
    ]
    return claims + [_Claim(strength=_STATED, at=one.at, letter=only) for one in right]


def with_stated_letters(text: str, choices: Sequence[str]) -> str:
    """Return a text in plain notation in which "the answer is Mercury." states the letter of that choice."""
    own = [plain(choice).strip() for choice in choices]
    for letter, choice in zip(LETTERS, own, strict=False):
        if len(choice) > 1 and [one.casefold() for one in own].count(choice.casefold()) == 1:
            ends = r"(?=[\"')]{0,2}(?:[.!](?:\s|$)|[^\S\n]*(?:\n|$)))"
            pattern = re.compile(rf"{_ANSWER_IS}(?:the\s)?{re.escape(choice)}{ends}", re.IGNORECASE)
            text = pattern.sub(rf"\1{letter}", text)
    return text


def without_choice_texts(text: str, choices: Sequence[str]) -> str:
    """Return a text in plain notation in which no letter is followed by its choice: `C. Mercury` is `C.`."""
    for letter, choice in zip(LETTERS, choices, strict=False):
        if own := plain(choice).strip():
            named = rf"(?<![A-Za-z0-9'])({letter}[)\]}}\"']{{0,3}}[.:)]?)[^\S\n]{{0,2}}[(\"]?"
            text = re.sub(
                rf"{named}{re.escape(own)}(?![A-Za-z0-9])", r"\1", text, flags=re.IGNORECASE if len(own) > 1 else 0
            )
    return text


def _is_next_to(text: str, answer: _Claim, turn: int, names: Mapping[str, str]) -> bool:
    """Return whether words that take something back follow an answer closely, with no other choice between.

    Args:
        text: in plain notation.
        answer: what they may take back.
        turn: where they begin.
        names: the choices' texts by their letters, in small letters.
    """
    if turn - answer.at > _NEAR or _MENTION.search(text, answer.at + 1, turn):
        return False
    between = text[answer.at + 1 : turn].casefold()
    return not any(len(name) > 2 and letter != answer.letter and name in between for letter, name in names.items())


def _leading(text: str, begin: int, end: int, choices: Sequence[str]) -> list[_Claim]:
    part = text[begin:end].lstrip(" ,.:;!?-–—") if begin else text[:end]
    letter = leading_letter(part, choices)
    return [_Claim(strength=_LEADING, at=begin, letter=letter)] if letter else []
