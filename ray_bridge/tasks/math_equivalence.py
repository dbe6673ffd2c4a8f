r"""Decide whether an answer has the value of a gold answer, with math-verify and rules of structure and exact numbers.

math-verify (Kydlíček et al. 2025) reads LaTeX and compares expressions, equations, unions, relations and matrices.
What it reads as less than what is written is compared by `ray_bridge.tasks.latex`: several values, units, bases, words,
and numbers, which it rounds.

Nothing here is bounded in time: a power tower keeps one C function busy for ever, so callers go through
`ray_bridge.tasks.bounded`.
"""

import re
from collections.abc import Sequence
from itertools import islice

from ray_bridge.tasks.choices import stated_letter
from ray_bridge.tasks.latex.boxes import boxed_answer
from ray_bridge.tasks.latex.choice_letters import Choice, choice
from ray_bridge.tasks.latex.intervals import interval, together
from ray_bridge.tasks.latex.notation import standard
from ray_bridge.tasks.latex.reading import drops, expression
from ray_bridge.tasks.latex.stated import stated_values
from ray_bridge.tasks.latex.structure import Answer, answer, vector
from ray_bridge.tasks.latex.values import same_text, same_value
from ray_bridge.tasks.revisions import is_asserted, turns

WARM_UP = (r"\frac{1}{2}", r"so it is $\frac{1}{2}$", "0.25")
"""Arguments of a call that loads and compiles what later calls need."""

LONGEST_ANSWER = 1_000
"""Characters of a longest answer that is read; a longer one only equals the same text."""

LONGEST_TEXT = 8_000
"""Characters, from the end, in which an answer without its format is looked for."""

_RELATION = re.compile(r"[<>]|\\(?:[lg]eq?|neq?|[lg]t|[lg]eqslant|cup|cap|infty|mathbb|setminus)(?![a-zA-Z])")
_ABSOLUTE = re.compile(r"\||\\[lr]vert")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_WORDS = re.compile(r"\\text\s?\{[a-zA-Z ]{2,40}\}|[a-zA-Z]{4,40}")
_ANSWER_IN_WORDS = re.compile(
    r"\banswer(?:\sis\b|:)[\s:*_\"]{0,4}(?P<words>(?:(?!\banswer\b)[a-zA-Z ]){2,41}?)[*_\"]{0,3}(?:[.,;!\n]|$)",
    re.IGNORECASE,
)
_MOST_READ = 16  # stated values of a text that are tried until one can be read


def verdicts(boxed: str | None, text: str, gold: str) -> tuple[bool, bool]:
    """Return whether a boxed answer equals gold, and whether that or what math-verify finds in a text does.

    Args:
        boxed: the answer in its format, LaTeX without dollar signs; None if there is none.
        text: all of the output.
        gold: LaTeX without dollar signs.
    """
    strict = boxed is not None and equivalent(boxed, gold)
    return strict, strict or stated(text, gold)


def equivalent(written: str, gold: str) -> bool:
    """Return whether an answer equals gold. One that cannot be read as a whole equals only the same text."""
    if written.split() == gold.split():
        return bool(gold.strip())
    if max(len(written), len(gold)) > LONGEST_ANSWER:
        return False
    written, gold = standard(written), standard(gold)
    if same_text(written, gold):
        return True
    one, other = choice(written), choice(gold)
    if one.letter and other.letter and (one.value or other.value):
        return one.letter == other.letter and (None in (one.value, other.value) or _same_value_of(one, other))
    return _same_value_of(one, other) if one.value and other.value else _same(answer(written), answer(gold))


def _same_value_of(one: Choice, other: Choice) -> bool:
    return _same(answer(one.value or ""), answer(other.value or ""))


def stated(text: str, gold: str) -> bool:
    """Return whether the value that a text states equals gold: the first that can be read, or the last box.

    Of values that "or", "and" or commas join all may also equal gold, as in "3/4, or 75%". If gold is the letter of a
    choice or words, a text without a box may state these.
    """
    text = text[-LONGEST_TEXT:]
    if len(gold) <= LONGEST_ANSWER and boxed_answer(text) is None and _stated_in_words(text, standard(gold)):
        return True
    for value in islice(stated_values(text), _MOST_READ):
        if equivalent(value.written, gold) or (value.parts and all(equivalent(part, gold) for part in value.parts)):
            return True
        if value.boxed or _readable(value.written):
            return False
    return False


def _stated_in_words(text: str, gold: str) -> bool:
    """Return whether a text states the letter of a choice ("the answer is (B)"), or words ("the answer is Evelyn")."""
    if letter := choice(gold).letter:
        return stated_letter(text) == letter
    answers = [*_ANSWER_IN_WORDS.finditer(text)] if _WORDS.fullmatch(gold) else []
    if not answers or any(turn.takes_back and turn.start > answers[-1].start() for turn in turns(text)):
        return False
    return is_asserted(text, answers[-1].start("words")) and equivalent(rf"\text{{{answers[-1]['words']}}}", gold)


def _readable(written: str) -> bool:
    if len(written) > LONGEST_ANSWER:
        return False
    text = standard(written)
    one = answer(text)
    return one.shape != "value" or drops(text) or expression(one.text) is not None


def _same(given: Answer, gold: Answer) -> bool:
    shapes = {given.shape, gold.shape}
    if same_text(given.text, gold.text):
        return True
    if shapes == {"value"}:
        return same_value(given.text, gold.text) or _same_inequality(given, gold) or _same_inequality(gold, given)
    if shapes == {"set"}:
        return _all_in(given.items, gold.items) and _all_in(gold.items, given.items)
    if shapes <= {"list", "set"}:
        return _same_in_any_order(given.items, gold.items)
    alike = (given.brackets or "()") == (gold.brackets or "()")  # a list is a tuple without its brackets
    if shapes <= {"list", "bracketed"} and alike and _same_in_order(given, gold):
        return True
    return len(shapes) > 1 and (_stands_for(given, gold) or _stands_for(gold, given))


def _stands_for(several: Answer, other: Answer) -> bool:
    """Return whether several values are what one text stands for: a set of one, an interval, a union, a vector."""
    if several.shape == "set":
        return len(several.items) == 1 and _same(several.items[0], other)
    if several.shape == "list":
        one = together(several)
        return one is not None and same_value(one, other.text)
    if several.shape != "bracketed" or other.shape != "value":
        return False
    if (entries := vector(other)) is not None:
        return several.brackets == "()" and _same_in_order(several, entries)
    # A relation, as -1 < x < 1, or a union may be an interval.
    return bool(_RELATION.search(other.text)) and same_value(several.text, other.text)


def _same_inequality(absolute: Answer, other: Answer) -> bool:
    """Return whether an inequality of an absolute value, as |x| < 5, is another one of the same variable."""
    if not _ABSOLUTE.search(absolute.text) or not _RELATION.search(absolute.text):
        return False
    variables = [{c for c in _COMMAND.sub("", one.text) if c.isalpha()} for one in (absolute, other)]
    where = interval(other) if variables[0] == variables[1] else None
    return where is not None and same_value(where, absolute.text)


def _all_in(some: Sequence[Answer], others: Sequence[Answer]) -> bool:
    return all(any(_same(one, other) for other in others) for one in some)


def _same_in_order(given: Answer, gold: Answer) -> bool:
    pairs = zip(given.items, gold.items, strict=False)
    return len(given.items) == len(gold.items) and all(_same(one, other) for one, other in pairs)


def _same_in_any_order(given: Sequence[Answer], gold: Sequence[Answer]) -> bool:
    """Return whether two lists hold the same values, each as often."""
    left = list(gold)
    for one in given:
        same = next((i for i, other in enumerate(left) if _same(one, other)), None)
        if same is None:
            return False
        del left[same]
    return not left
