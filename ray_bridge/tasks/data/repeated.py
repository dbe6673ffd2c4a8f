"""Questions that stand in a data set more than once: a test question that was trained on measures nothing new."""

from collections import Counter
from collections.abc import Sequence

from ray_bridge.tasks.task import Example

_NAMED = 3  # examples that a line names


def repeated_questions(train: Sequence[Example], test: Sequence[Example]) -> list[str]:
    """Return one line on test questions that are also in the training split, and one on those that repeat in the test.

    Questions are the same if they differ only in spaces and in case.
    """
    trained = {_form(example) for example in train}
    counts = Counter(map(_form, test))
    leaked = [example for example in test if _form(example) in trained]
    repeated = [example for example in test if counts[_form(example)] > 1]
    return [
        f"{len(found)} of {len(test)} test questions {what} ({_names(found)}); {remedy}"
        for found, what, remedy in (
            (leaked, "are also training questions", "remove them from one of the splits"),
            (repeated, "stand in the test split more than once", "leave one of each"),
        )
        if found
    ]


def _form(example: Example) -> str:
    return " ".join(example.question.casefold().split())


def _names(examples: Sequence[Example]) -> str:
    return ", ".join(example.id for example in examples[:_NAMED]) + (", ..." if len(examples) > _NAMED else "")
