"""MATH (Hendrycks et al. 2021): competition problems whose solutions box their answer; compared by math-verify."""

from bridge_common.errors import UserError
from ray_bridge.tasks.datasets import load_rows
from ray_bridge.tasks.question_answering import HubTask
from ray_bridge.tasks.scoring import cut
from ray_bridge.tasks.task import Example, Score

HUB_NAME = "nlile/hendrycks-MATH-benchmark"
_BOX = "\\boxed{"


class CompetitionMath(HubTask):
    """MATH from the hub, or from a folder; rows have `problem` and `solution`."""

    name = "math"
    stops: tuple[str, ...] = ("\nQuestion:", "\nProblem:")

    def score(self, output: str, example: Example) -> Score:
        """Strict: the last boxed answer is equivalent to gold. Flexible: whatever math-verify finds in the text."""
        text = cut(output, self.stops)
        boxed = last_boxed(text)
        strict = boxed is not None and equivalent(f"${boxed}$", example.gold)
        return Score(
            answer=boxed,
            correct=strict,
            flexible=strict or equivalent(text, example.gold),
            valid=boxed is not None,
        )

    def _load(self, split: str) -> list[Example]:
        rows, place = load_rows(
            split, folder=self.data, hub=HUB_NAME, revision=self.revision, fields=("problem", "solution")
        )
        examples = []
        for index, row in enumerate(rows):
            gold = last_boxed(str(row["solution"]))
            if not gold:
                raise UserError(f"{place}, example {index}: the solution boxes no answer with \\boxed{{...}}")
            groups = {name: str(row[name]) for name in ("level", "subject") if name in row}
            examples.append(
                Example(
                    id=f"math-{split}-{index:05d}",
                    index=index,
                    question=str(row["problem"]),
                    answer=str(row["solution"]),
                    gold=gold,
                    groups=groups,
                )
            )
        return examples


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` with balanced braces, or None."""
    start = text.rfind(_BOX)
    if start < 0:
        return None
    depth, begin = 1, start + len(_BOX)
    for at in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[begin:at].strip()
    return None


def equivalent(text: str, gold: str) -> bool:
    """Whether math-verify reads the same value from a text as from a gold answer. Nothing never equals nothing."""
    from math_verify import parse, verify

    expected, found = parse(f"${gold}$", parsing_timeout=None), parse(text, parsing_timeout=None)
    return bool(expected) and bool(found) and bool(verify(expected, found, timeout_seconds=None))
