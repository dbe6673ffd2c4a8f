"""Sample files with chosen answers, for tests of what is computed from them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Verdicts = Mapping[str, Sequence[bool]]
"""Whether each item is solved, by condition."""


def write_samples(path: Path, verdicts: Verdicts, *, first: int = 0, invalid: Sequence[int] = ()) -> Path:
    """Write a sample file as a job does; items in `invalid` have no answer under any condition."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(len(verdicts["bridged"])):
        number = first + i
        row: dict[str, Any] = {
            "id": f"q{number}",
            "index": number,
            "gold": str(number),
            "question": f"What is {number}?",
        }
        for condition, flags in verdicts.items():
            answer = str(number) if flags[i] else None if i in invalid else "no"
            row |= {f"{condition}_answer": answer, f"{condition}_output": f"#### {answer}"}
            row |= {f"{condition}_correct": bool(flags[i]), f"{condition}_valid": answer is not None}
        rows.append(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def bits(text: str) -> list[bool]:
    """Return the verdicts that a text of 0 and 1 stands for."""
    return [digit == "1" for digit in text]
