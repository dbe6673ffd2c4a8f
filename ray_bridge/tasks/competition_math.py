r"""MATH (Hendrycks et al. 2021): competition problems whose solutions box their answer; compared by math-verify.

Comparing two expressions can take for ever (`9^{9^{9}}`), so it happens in processes that are limited in time and
memory. A comparison that is stopped counts as wrong.
"""

from ray_bridge.tasks.bounded.pool import BoundedFunction
from ray_bridge.tasks.data.hub import HubData
from ray_bridge.tasks.data.rows import DataRow, UnusableRowError, group_field, text_field
from ray_bridge.tasks.latex.boxes import boxed_answer
from ray_bridge.tasks.question_answering import HubTask
from ray_bridge.tasks.task import Example, Score

VERDICTS = BoundedFunction("ray_bridge.tasks.math_equivalence:verdicts")
"""Compares an output with a gold answer in another process: `VERDICTS(boxed, text, gold)`."""


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
        """Return what a solution boxes or, without a box, writes after `####`; any other text as it is."""
        return boxed_answer(text) or text.rpartition("####")[2].strip()

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
