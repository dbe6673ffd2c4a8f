"""Multiple choice: the letter that an output names, and the choice that a table of likelihoods makes likeliest."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ray_bridge.tasks.hotpotqa import normalised
from ray_bridge.tasks.judged import begins_with_options, judged_lines, option_lines, walks_through
from ray_bridge.tasks.latex.boxes import boxed_answer
from ray_bridge.tasks.letters import LETTERS, Named, leading_letter, plain
from ray_bridge.tasks.revisions import takes_back_at_once
from ray_bridge.tasks.settled import settled, with_stated_letters, without_choice_texts
from ray_bridge.tasks.task import Example, Score

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{?[^{}\n]*")
_FIRST_SENTENCE = re.compile(r"\s*+(?P<first>[^\n]{1,300}?)[.!]\s(?P<rest>.*)", re.DOTALL)
_ROW = re.compile(r"(?P<letter>[A-Z]) (?P<total>-?\d+\.\d+) (?P<mean>-?\d+\.\d+)")


def lettered(choices: Sequence[str]) -> str:
    """Return choices as lines, each with its letter."""
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


def score_letter(text: str, example: Example) -> Score:
    r"""Score a generated answer to a question whose choices were shown with their letters.

    Strict: the first line begins with a letter that stands for itself (`B`, `B. Mars`), names no other letter and
    does not take it back. Flexible: the letter on which the text settles (`settled`), else a small letter at the
    beginning, else the only choice whose text the first line is. Where several letters are named together, none is.
    Of options that are judged line by line, only one that is judged right can be the answer. Reasoning that ends in
    `</think>`, or has not ended, is not part of the answer.
    """
    line = text.rpartition("</think>")[2].partition("<think>")[0]
    text = plain(line)
    choices = example.choices
    strict = leading_letter(text, choices)
    bare = with_stated_letters(without_choice_texts(text, choices), choices)
    options = option_lines(bare, LETTERS[: len(choices)])
    answer = settled(bare, choices, _boxed(bare, text, choices))
    lists = begins_with_options(bare, options)
    states_other = walks_through(options, LETTERS[: len(choices)]) and answer.is_stated and answer.letter != strict
    if lists or states_other or any(one.is_right and one.letter != strict for one in judged_lines(options)):
        strict = None
    flexible = answer.letter
    if answer.taken_back:
        flexible = chosen_text(answer.taken_back.lstrip(" ,.:;-"), choices)
    elif answer.says_nothing and flexible is None and not lists:
        flexible = leading_letter(text, choices, small=True) or chosen_text(line, choices) or chosen_text(text, choices)
        if flexible is None and (sentence := _FIRST_SENTENCE.match(text)) and not takes_back_at_once(sentence["rest"]):
            flexible = chosen_text(sentence["first"], choices)
    return _score(strict, flexible, example)


def stated_letter(text: str) -> str | None:
    """Return the letter that a text states as its answer (`the answer is (B)`, `so it's B`); None if none."""
    answer = settled(plain(text), [""] * len(LETTERS))
    return answer.letter if answer.is_stated else None


def _boxed(bare: str, text: str, choices: Sequence[str]) -> list[Named]:
    """Return the letter that a text's last box holds, alone or with its choice, or that of the choice that it holds."""
    box = boxed_answer(text)
    letter = box and (leading_letter(box, choices, small=True) or chosen_text(box, choices))
    if not letter:
        return []
    boxes = [match.end() for match in _BOX.finditer(bare)]
    return [Named(at=boxes[-1] if boxes else len(bare), letter=letter)]


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
