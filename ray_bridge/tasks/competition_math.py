r"""MATH (Hendrycks et al. 2021): competition problems whose solutions box their answer; compared by math-verify.

Comparing two expressions can take for ever (`9^{9^{9}}`), so it happens in processes that are limited in time and
memory. A comparison that is stopped counts as wrong.
"""

import re

from ray_bridge.tasks.bounded.pool import BoundedFunction
from ray_bridge.tasks.data.hub import HubData
from ray_bridge.tasks.data.rows import DataRow, RowError, UnusableRowError, group_field, shown, text_field
from ray_bridge.tasks.latex.boxes import boxed_answer
from ray_bridge.tasks.question_answering import HubTask
from ray_bridge.tasks.task import Example, Score

VERDICTS = BoundedFunction("ray_bridge.tasks.math_equivalence:verdicts")
"""Compares an output with a gold answer in another process: `VERDICTS(boxed, text, gold)`."""


_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])")
_IN_TEXT = re.compile(r"\\[a-zA-Z]+\s?\{[^{}]*\}|\\[a-zA-Z]+")
_FORMULA = re.compile(r"\$[^$]*\$")
_WORD = re.compile(r"[a-zA-Z]{3,}")
_VERB = re.compile(r"\b(?:is|are|was|were|so|we|answer|therefore|thus|hence|because|equals|which)\b", re.IGNORECASE)


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
        text, gold = self.answer_text(output, example), example.gold
        boxed = boxed_answer(text)
        stopped, valid = None, boxed is not None
        if not gold.strip() or not text.strip():
            strict = flexible = False
        elif boxed and boxed.split() == gold.split():
            strict = flexible = True
        else:
            outcome = VERDICTS(boxed or None, text, gold)
            (strict, flexible), stopped = outcome.value or (False, False), outcome.stopped
        return Score(answer=boxed, correct=strict, flexible=flexible, valid=valid, stopped=stopped)

    def gold_of(self, text: str, example: Example) -> str:
        """Return what a solution boxes or, without a box, writes after `####`; any other answer as it is.

        Raises:
            RowError: if a box holds nothing, or the text is prose that boxes no answer.
        """
        gold = boxed_answer(text)
        if gold:
            return gold
        end = shown(text[-60:])
        if _BOX.search(text):
            raise RowError(f"gold boxes no answer: it ends in {end}; write \\boxed{{...}}, or the answer alone")
        gold = text.rpartition("####")[2].strip()
        bare = _IN_TEXT.sub(" ", gold)
        words = len(_WORD.findall(_FORMULA.sub(" ", bare)))
        if _VERB.search(bare) or (words > 1 and "$" in bare) or (words > 2 and gold.endswith(".")):
            raise RowError(f"gold is prose that boxes no answer: it ends in {end}; write the answer alone, as \\frac12")
        return gold

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
            groups={name: group_field(row.fields, name) for name in ("level", "subject") if name in row.fields},
        )
