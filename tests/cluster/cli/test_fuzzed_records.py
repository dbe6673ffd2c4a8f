"""Records with values of another kind in any place: each command reads them, or says in one line which file is damaged.

`make fuzz` draws other changes for some minutes; what it finds becomes a case of `test_wrong_requests`.
"""

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.card_campaigns import make_ended
from tests.support.command_line import call_here, is_one_error_line

pytestmark = pytest.mark.slow
SEED, SECONDS = int(os.environ.get("FUZZ_SEED", "1")), float(os.environ.get("FUZZ_SECONDS", "0"))
CHANGES = 40
"""Changes of a run without `FUZZ_SECONDS`, the same ones every time."""
VALUES = (None, 0, -1, float("inf"), True, "", "x", "../../x", [], {}, [1], {"a": 1}, "9" * 50, 2**70)
COMMANDS = (("status",), ("status", "--json"), ("results",), ("card",), ("appendix",))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where values stand in a record, outer ones first; of long lists the first three."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    return [at, *(place for key, below in inner for place in places(below, (*at, key)))]


def changed(record: Any, draw: random.Random) -> Any:
    """Replace or remove one value of a record."""
    place, value = draw.choice(places(record)), draw.choice(VALUES)
    if not place:
        return value
    inner = record
    for key in place[:-1]:
        inner = inner[key]
    if draw.random() < 0.2:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return record


def write_changed(file: Path, draw: random.Random) -> None:
    rows = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
    at = draw.randrange(len(rows))
    rows[at] = json.dumps(changed(json.loads(rows[at]), draw))
    file.write_text("\n".join(rows) + "\n")


def test_commands_read_any_record_or_name_it(tmp_path: Path) -> None:
    make_ended(tmp_path / "storage", "demo", items=6, seeds=(0,), sizes=(8,))
    files = sorted((tmp_path / "storage" / "demo").rglob("*.json*"))
    assert {"campaign.json", "plan.json", "gate.json", "spec.json", "result.json"} <= {file.name for file in files}
    draw, end, count = random.Random(SEED), time.monotonic() + SECONDS, 0
    while count < CHANGES or time.monotonic() < end:
        file, command, count = draw.choice(files), draw.choice(COMMANDS), count + 1
        whole = file.read_text()
        write_changed(file, draw)
        try:
            done = call_here(*command, "--storage", str(tmp_path / "storage"))
        except Exception as error:
            raise AssertionError(f"{command} of change {count} by seed {SEED}: {file} is {file.read_text()}") from error
        assert done.returncode == 0 or is_one_error_line(done), (count, command, file, file.read_text(), done.stderr)
        file.write_text(whole)
