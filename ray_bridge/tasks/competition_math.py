r"""MATH (Hendrycks et al. 2021): competition problems whose solutions box their answer; compared by math-verify.

Comparing two expressions can take for ever (`9^{9^{9}}`), so it happens in processes that are limited in time and
memory. A comparison that is stopped counts as wrong.
"""

import re

from ray_bridge.tasks.bounded.pool import BoundedFunction
from ray_bridge.tasks.data.hub import HubData
from ray_bridge.tasks.data.rows import DataRow, UnusableRowError, text_field
from ray_bridge.tasks.question_answering import HubTask
from ray_bridge.tasks.task import Example, Score

EQUIVALENT = BoundedFunction("ray_bridge.tasks.math_equivalence:equivalent")
"""Compares an answer with a gold one in another process: `EQUIVALENT(text, gold)`."""

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace is a character of the answer
_UNBRACED = re.compile(r"(?:\\(?!boxed|fbox)|[^\s$\\])+")
# What may stand between boxes that are one answer together; `\boxed{1} or rather \boxed{2}` corrects itself.
_SEPARATOR = re.compile(
    r"(?:[\s$~]|\\[()\[\], ]|\\q?quad)*"
    r"(?:,|;|(?:,\s*)?(?:\\text\s*\{\s*)?(?:and|or)\b(?:\s*\})?)"
    r"(?:[\s$~]|\\[()\[\], ]|\\q?quad)*"
)


class CompetitionMath(HubTask):
    """MATH from the hub, or from a folder; rows have `problem` and `solution`."""

    name = "math"
    max_new_tokens = 1024
    num_fewshot = 4  # Minerva's (Lewkowycz et al. 2022)
    stops: tuple[str, ...] = ("\nQuestion:", "\nProblem:")
    hub = HubData(name="nlile/hendrycks-MATH-benchmark")
    unusable = 0.01  # a few solutions of the data box nothing

    def score(self, output: str, example: Example) -> Score:
        """Score strictly if the last boxed answer equals gold, flexibly if anything that math-verify reads does."""
        text = self.answer_text(output, example)
        boxed = boxed_answer(text)
        strict, stopped = compare(boxed, f"${boxed}$", example.gold) if boxed else (False, None)
        flexible = strict
        if not strict and not stopped:
            flexible, stopped = compare(text, text, example.gold)
        return Score(answer=boxed, correct=strict, flexible=flexible, valid=boxed is not None, stopped=stopped)

    def gold_of(self, text: str, example: Example) -> str:
        """Return the boxed answer of a solution, or a text without a box as it is."""
        return boxed_answer(text) or text

    def example(self, row: DataRow, split: str, index: int) -> Example:
        """Return the example of a row; gold is what its solution boxes."""
        problem, solution = text_field(row.fields, "problem"), text_field(row.fields, "solution")
        gold = boxed_answer(solution)
        if not gold:
            raise UnusableRowError("the solution boxes no answer with \\boxed{...}; add it, or remove the row")
        return Example(
            id=f"math-{split}-{index:05d}",
            index=index,
            question=problem,
            answer=solution,
            gold=gold,
            groups={name: str(row.fields[name]) for name in ("level", "subject") if name in row.fields},
        )


def compare(answer: str, text: str, gold: str) -> tuple[bool, str | None]:
    """Return whether an answer equals gold, and why the comparison was stopped, if it was.

    Args:
        answer: the answer as it is written; the same characters as gold are equal to it.
        text: what math-verify reads the answer from.
        gold: LaTeX.
    """
    if not gold.strip() or not text.strip():
        return False, None
    if answer.split() == gold.split():
        return True, None
    outcome = EQUIVALENT(text, gold)
    return bool(outcome.value), outcome.stopped


def boxed_answer(text: str) -> str | None:
    r"""Return what the last `\boxed{...}`, `\fbox{...}` or `\boxed 7` of a text holds, or None.

    Boxes that only a comma, a semicolon, "and" or "or" separates are one answer: `\boxed{3}, \boxed{5}` is `3,5`.
    """
    ends = _closing_braces(text)
    boxes: list[tuple[int, int, str]] = []  # begin, end, content
    for match in reversed(list(_BOX.finditer(text))):
        box = _content(text, match, ends)
        if box is None and not boxes:
            return None
        if box is None or (boxes and not _SEPARATOR.fullmatch(text, box[1], boxes[-1][0])):
            break
        boxes.append(box)
    contents = dict.fromkeys(content for _, _, content in reversed(boxes))  # the same answer twice is one
    return ",".join(contents) if contents else None


def _content(text: str, match: re.Match[str], ends: dict[int, int]) -> tuple[int, int, str] | None:
    if text[match.end() : match.end() + 1] == "{":
        end = ends.get(match.end())
        return None if end is None else (match.start(), end + 1, text[match.end() + 1 : end].strip())
    bare = _UNBRACED.match(text, match.end())
    content = bare[0].rstrip(".,;:") if bare else ""
    return (match.start(), match.end() + len(content), content) if content else None


def _closing_braces(text: str) -> dict[int, int]:
    """Return the place of the closing brace of each opening one that is closed."""
    opened, ends = [], {}
    for match in _BRACE.finditer(text):
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            ends[opened.pop()] = match.start()
    return ends
