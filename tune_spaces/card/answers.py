"""Pack the answers of all trials for the page: verdicts in the page itself, texts in compressed blocks, one a trial.

Baselines give the same texts in most trials, so a block names the first trial with equal texts instead of repeating
them. Blocks that would make the page too large are written as files beside it.
"""

import base64
import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from bridge_common.files import write_text
from bridge_common.metric_names import CONDITIONS
from tune_spaces.analysis.samples import Samples, read_rows
from tune_spaces.analysis.scored_trials import Trials

INLINE_LIMIT = 11_000_000  # characters of blocks in the page: with plots and tables it stays below 15 MB
BESIDE = "card_answers"
RIGHT, WRONG, NONE = "1", "0", "-"


@dataclass(frozen=True, kw_only=True)
class PackedAnswers:
    """All answers as the page needs them.

    Attributes:
        index: compressed items, trials and verdicts.
        blocks: compressed texts of the trials in the page, by the trial's number.
        files: compressed texts of the other trials, by the name of their file.
        items: number of items.
        trials: number of trials.
    """

    index: str
    blocks: dict[int, str]
    files: dict[str, str]
    items: int
    trials: int

    def write_files(self, folder: Path) -> None:
        """Write the files beside the page, and remove those of an earlier page."""
        beside = folder / BESIDE
        for path in beside.glob("*.js"):
            if path.name not in self.files:
                path.unlink()
        for name, text in self.files.items():
            write_text(beside / name, text)


def pack_answers(trials: Trials, limit: int = INLINE_LIMIT) -> PackedAnswers:
    """Pack the answers of all trials on the reference's items.

    Args:
        trials: the trials.
        limit: characters of blocks that the page may hold.
    """
    ordered = [trial for group in trials.variants().values() for trial in group]
    blocks: dict[int, str] = {}
    files: dict[str, str] = {}
    entries: list[dict[str, Any]] = []
    known: dict[bytes, int] = {}
    items: list[dict[str, Any]] = []
    used = 0
    for number, trial in enumerate(ordered):
        rows = read_rows(trial.samples, range(trial.samples.n))
        if not items:
            items = [_item(row) for row in rows]
        conditions = [name for name in CONDITIONS if name in trial.samples.conditions]
        block = _compressed(_texts(number, conditions, rows, known))
        entry: dict[str, Any] = {
            "name": trial.name,
            "variant": trial.variant,
            "verdicts": _verdicts(trial.samples, conditions),
        }
        if used + len(block) <= limit:
            blocks[number], used = block, used + len(block)
        else:
            file = f"{number}-{re.sub(r'[^A-Za-z0-9._-]+', '-', trial.variant)}-{trial.seed}.js"
            entry["file"] = file
            files[file] = f'cardBlock({number},"{block}")\n'
        entries.append(entry)
    index = {"conditions": list(CONDITIONS), "items": items, "trials": entries, "folder": BESIDE}
    return PackedAnswers(index=_compressed(index), blocks=blocks, files=files, items=len(items), trials=len(entries))


def _item(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(row.get("id", row.get("index"))),
        "question": str(row.get("question") or ""),
        "gold": str(row.get("gold")),
    }


def _verdicts(samples: Samples, conditions: Sequence[str]) -> dict[str, str]:
    """Return one character an item and condition: right, wrong, or no answer."""
    return {
        name: "".join(
            RIGHT if right else WRONG if valid else NONE
            for right, valid in zip(samples.conditions[name].correct, samples.conditions[name].valid, strict=True)
        )
        for name in conditions
    }


def _texts(
    number: int, conditions: Sequence[str], rows: Sequence[dict[str, Any]], known: dict[bytes, int]
) -> dict[str, Any]:
    """Return outputs and answers by condition, or the number of an earlier trial that has the same under it."""
    texts: dict[str, Any] = {}
    for condition in conditions:
        outputs = [str(row.get(f"{condition}_output") or "") for row in rows]
        answers = [None if row.get(f"{condition}_answer") is None else str(row[f"{condition}_answer"]) for row in rows]
        own = {"outputs": outputs, "answers": answers}
        digest = sha256(json.dumps([condition, own]).encode()).digest()
        first = known.setdefault(digest, number)
        texts[condition] = own if first == number else first
    return texts


def _compressed(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(errors="replace"), compresslevel=9, mtime=0)).decode()
