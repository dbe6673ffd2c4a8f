"""docs/scored_examples.md: a table of outputs with the right verdict beside each, scored line by line."""

import re
from pathlib import Path

import pytest

from ray_bridge.config.task_mapping import known_mapping
from ray_bridge.tasks.competition_math import CompetitionMath
from ray_bridge.tasks.gsm8k import GSM8K
from ray_bridge.tasks.hotpotqa import HotpotQA
from ray_bridge.tasks.mapped import MappedTask
from ray_bridge.tasks.task import Example, Task

PAGE = Path(__file__).parents[3] / "docs" / "scored_examples.md"
CHOICES = ("Venus", "Mars", "Mercury", "Earth")
TASKS: dict[str, Task] = {
    "gsm8k": GSM8K(),
    "math": CompetitionMath(),
    "hotpotqa": HotpotQA(),
    "arc_challenge": MappedTask(known_mapping("arc_challenge")),
    "ceval": MappedTask(known_mapping("ceval")),
    "choice_likelihood": MappedTask(known_mapping("arc_challenge").replace(kind="choice_likelihood")),
}
_CELLS = re.compile(r"(?<!\\)\|")


def text_of(cell: str) -> str:
    """The text that a cell of the page stands for."""
    code = cell.strip().removeprefix("`").removesuffix("`")
    return code.replace("⏎", "\n").replace("␣", " ").replace("\\|", "|")


def lines_of(page: Path) -> list[tuple[str, int, list[str]]]:
    """Task, line number and cells of every scored line."""
    task, lines = "", []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("## "):
            task = line.removeprefix("## ").strip()
        elif line.startswith("| `"):
            lines.append((task, number, _CELLS.split(line)[1:-1]))
    return lines


LINES = lines_of(PAGE)


@pytest.mark.parametrize("task", TASKS)
def test_each_line_of_the_page_is_scored_as_it_says(task: str) -> None:
    wrong = []
    for name, number, cells in LINES:
        if name != task:
            continue
        output, gold, expected = text_of(cells[0]), text_of(cells[1]), (cells[2].strip(), cells[3].strip())
        example = Example(id="x", index=0, question="?", answer=gold, gold=gold, choices=CHOICES)
        score = TASKS[task].score(output, example)
        verdict = "right" if score.correct else "wrong" if score.valid else "invalid"
        if (verdict, "right" if score.flexible else "wrong") != expected:
            wrong.append(f"line {number}: {output!r} for {gold!r} is {verdict}, flexibly {score.flexible}")
    assert not wrong, "\n".join(wrong)


def test_the_page_has_lines_of_every_task() -> None:
    assert {task for task, _, _ in LINES} == TASKS.keys()
    assert len(LINES) >= 200
