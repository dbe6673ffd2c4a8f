"""Whether an answer in somebody else's sample file is right: files that carry no verdict of their own need one rule.

Our own files carry `<condition>_correct`, which the task decided and which is used as it is.
"""

from functools import lru_cache
from typing import Any

from ray_bridge.tasks import scoring

NOTHING = ("", "nan", "[invalid]")


def is_valid(answer: Any) -> bool:
    """Whether there is an answer at all: null, NaN, blank and `[invalid]` are none."""
    return answer is not None and str(answer).strip().lower() not in NOTHING


def normalise(answer: Any) -> str:
    """An answer's one written form: of a number (`18.`, `$18`, `1,000`, `18.0`, `#### 18`), or else its folded text."""
    return _normalised(str(answer))


@lru_cache(maxsize=1 << 14)  # the trials of a campaign share their gold answers
def _normalised(answer: str) -> str:
    text = answer.strip().removeprefix("####")
    return scoring.normalise(text) or " ".join(text.casefold().split())


def is_correct(answer: Any, gold: Any) -> bool:
    """Whether an answer equals the gold one after normalisation; nothing against nothing is not correct."""
    return is_valid(answer) and is_valid(gold) and normalise(answer) == normalise(gold)
