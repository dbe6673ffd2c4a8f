"""The command that scores a file of outputs as an evaluation would."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bridge_common.errors import UserError
from cluster.cli.checks import FILE, NEW_FILE, require_writable

if TYPE_CHECKING:
    from ray_bridge.tasks.score_file import ScoredLine

_END = 60  # characters of an output that are shown
_NAMED = 5  # ids that a line names


@click.command()
@click.argument("file", type=FILE)
@click.option("--task", required=True, help="gsm8k, math, ... (docs/tasks.md), MODULE:CLASS, or a mapping's FILE.toml")
@click.option("--field", default="output", help="field with the output, such as bridged_output in a samples.jsonl")
@click.option("--out", type=NEW_FILE, help="JSONL to write each line's score to")
@click.option("--limit", type=click.IntRange(min=0), default=50, help="most lines to list, where the rules differ")
def score(file: Path, task: str, field: str, out: Path | None, limit: int) -> None:
    """Score a JSONL file of outputs (id, gold, output), strictly and flexibly, and list where the two differ."""
    from bridge_common.files import write_jsonl
    from bridge_common.visible_text import visible
    from cluster.cli.request import task_fields
    from ray_bridge.config.presets import tiny
    from ray_bridge.tasks.score_file import score_file
    from ray_bridge.tasks.splits import make_task

    if out is not None:
        if out.exists() and file.exists() and out.samefile(file):
            raise UserError(f"--out {out} is the file that is scored: name another one")
        require_writable(out.parent, "--out")
    lines = score_file(file, make_task(tiny(**task_fields(task))), field)
    # Half a surrogate pair, which JSON can hold, has no form on a terminal.
    print(visible("\n".join(report(file, task, lines, limit))).encode(errors="replace").decode())
    if out is not None:
        write_jsonl(out, [line.record() for line in lines])


def report(file: Path, task: str, lines: Sequence["ScoredLine"], limit: int) -> list[str]:
    """Return the shares under each rule, with their intervals, and the lines on which the rules differ."""
    from bridge_common.intervals import wilson

    n = len(lines)
    text = [f"{file}: {n} outputs, scored as {task}", ""]
    counts = {
        "strict": sum(line.score.correct for line in lines),
        "flexible": sum(line.score.flexible for line in lines),
        "in the format": sum(line.score.valid for line in lines),
    }
    for name, count in counts.items():
        low, high = wilson(count, n)
        text.append(f"{name:<14}{count:>6}  {count / n:>6.1%}  95 % interval [{low:.1%}, {high:.1%}]")
    names = Counter(line.example.id for line in lines)
    if twice := [name for name, count in names.items() if count > 1]:
        text += ["", f"ids on more than one line, each line counted: {len(twice)} ({', '.join(twice[:_NAMED])})"]
    stopped = [line for line in lines if line.score.stopped]
    if stopped:
        text += ["", f"{len(stopped)} stopped at a limit of time or memory, counted as wrong:"]
        text += [f"  {line.place}  {line.example.id}: {line.score.stopped}" for line in stopped[:limit]]
    different = [line for line in lines if line.differs]
    if not different:
        return [*text, "", "strict and flexible agree in every line"]
    text += ["", f"strict and flexible differ in {len(different)} of {n} lines:"]
    text += [_difference(line) for line in different[:limit]]
    return text + ([f"  and {len(different) - limit} more; --limit shows them"] if len(different) > limit else [])


def _difference(line: "ScoredLine") -> str:
    score = line.score
    right = "strict right, flexible wrong" if score.correct else "strict wrong, flexible right"
    read = "no answer in the format" if score.answer is None else f"read {score.answer[:_END]!r}"
    gold, end = line.example.gold[:_END], line.output[-_END:]
    return f"  {line.place}  {line.example.id}  gold {gold!r}: {right}; {read}; ends {end!r}"


COMMANDS = (score,)
