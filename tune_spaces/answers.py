"""Whether an answer in somebody else's sample file is right: files that carry no verdict of their own need one rule.

Our own files carry `<condition>_correct`, which the task decided and which is used as it is.
"""

import re
from decimal import Decimal
from typing import Any

NOTHING = ("", "nan", "[invalid]")
NUMBER = re.compile(r"(?:####\s*)?([-+]?)\s*[$€£]?\s*([-+]?)(\d[\d,]*\.?\d*|\.\d+)\.?")


def is_valid(answer: Any) -> bool:
    """Whether there is an answer at all: null, NaN, blank and `[invalid]` are none."""
    return answer is not None and str(answer).strip().lower() not in NOTHING


def normalise(answer: Any) -> Decimal | str:
    """The number that an answer spells (`18.`, `$18`, `1,000`, `18.0`, `#### 18`), or else its folded text."""
    text = str(answer).strip()
    number = NUMBER.fullmatch(text)
    if number is None or (number[1] and number[2]):
        return " ".join(text.casefold().split())
    sign = -1 if "-" in (number[1], number[2]) else 1
    return sign * Decimal(number[3].replace(",", ""))


def is_correct(answer: Any, gold: Any) -> bool:
    """Whether an answer equals the gold one after normalisation; nothing against nothing is not correct."""
    return is_valid(answer) and is_valid(gold) and normalise(answer) == normalise(gold)
