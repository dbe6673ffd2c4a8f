"""No output of 64 kB, whatever its bytes, takes more than 2 s of CPU time or 1 GB of memory to score."""

import os
import random
import resource
import string
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_bridge.config.task_mapping import TaskMapping, known_mapping
from ray_bridge.tasks.bounded.pool import MEMORY
from ray_bridge.tasks.competition_math import VERDICTS, CompetitionMath
from ray_bridge.tasks.data.rows import DataRow, RowError
from ray_bridge.tasks.gsm8k import GSM8K
from ray_bridge.tasks.hotpotqa import HotpotQA
from ray_bridge.tasks.mapped import MappedTask
from ray_bridge.tasks.task import Example, Task

SIZE = 64_000
LETTER = known_mapping("arc_challenge")
TASKS: dict[str, tuple[Task, str]] = {
    "gsm8k": (GSM8K(), "18"),
    "math": (CompetitionMath(), r"\frac{1}{2}"),
    "words": (CompetitionMath(), r"\text{even}"),
    "hotpotqa": (HotpotQA(), "The Eiffel Tower"),
    "letter": (MappedTask(LETTER), "C"),
    "letter_likelihood": (MappedTask(LETTER.replace(kind="letter_likelihood")), "C"),
    "choice_likelihood": (MappedTask(LETTER.replace(kind="choice_likelihood")), "C"),
    "exact": (MappedTask(TaskMapping(name="own", kind="exact", question="q", gold="a")), "The Eiffel Tower"),
    "numeric": (MappedTask(TaskMapping(name="own", kind="numeric", question="q", gold="a")), "18"),
}
CHOICES = ("Venus", "Mars", "Mercury", "Earth")
PIECES = (
    *("####", "#### ", "\\boxed{", "\\fbox{", "\\boxed ", "}", "{", "$", "$$", "\\(", "\\)", "\\[", "\\]", "\\", "\n"),
    *("1", "9", "12,345", ".", ",", "-", "−", "e9", "1e5", "9^{9^{9}}", "^{9", "!", "\\frac{1}{", "\\sqrt{", "x", "+"),
    *("=", "<", "(", ")", "[", "]", "\\text{", " and ", " or ", "The final answer is ", "answer: ", "I hope", "\\cup"),
    *("The answer is ", "(C)", "C", "A -1.0 -1.0\n", "答案是", "Mercury", "answer" + " " * 50),
    *("（C）", "【答案】", "选", "not A but ", "it's ", "、", "或", "<｜end▁of▁sentence｜>", "T-shirts", "✅", "_"),
    *("\\begin{cases}", "\\end{cases}", "\\begin{aligned}", "\\end{aligned}", "|", "(B) ", ":", "a.m.", "\\sqrt[3]{"),
    *("\\pm", "\\mp", "(c)", "C选项", "正确"),
    *("Wait, no: ", "Is the answer ", "If the answer is ", "? ", "neither ", "that is wrong. ", "- C\n", "5. No. "),
    *(" eggs per day", "<s>", "#", ">", "> ", "12,"),
    *("\\pmod{", "\\equiv ", "\\mathbf{i}", "\\text{The answer is }", "xy=", "\n**Problem:**", "US$", "\u200b"),
    *("\\begin{pmatrix}", "\\\\", "&", "\\end{pmatrix}", "\\int_0^1", "\\sum_{n=1}^{9}", "\\%", " ", "é", "\x00", "٣"),
)
SHORT = (
    *("> ", "- ", "#\n", "1 ", "1,", "12,", "1'000", "A ", "A)", "(A)", "A. ", "A: ", "A\n", "A or ", "not "),
    *("the ", "so, ", "is A ", "if ", "_a", "'s ", "\\ ", "\\text{", "I think ", "A. wrong\n", "- A: 错\n", "✗"),
    *("选", "不", "both A and "),
    *("A\nWrong.\n", "1. A: no\n", "- A\n- x\n", "answer is Mercury.", "since x>0, ", "is 5 at x=", "answer is even "),
    *("\\boxed{3}$ or $x = ", "is 5 since "),
)
NESTED = (
    *("()", "[]", "{}", "（）", ("\\{", "\\}"), ("\\boxed{", "}"), ("\\sqrt{", "}"), ("\\text{", "}")),
    *(("\\left(", "\\right)"), ("<think>", "</think>")),
)


def inputs(seed: int) -> list[str]:
    """Outputs of up to 64 kB: bytes, pieces of what scorers look for, one or two of them repeated, nested braces."""
    rng = random.Random(seed)
    length = rng.randrange(SIZE // 2, SIZE)
    one, other = rng.choice(PIECES), rng.choice(PIECES)
    mixed = "".join(rng.choices(PIECES, k=length // 16))
    return [
        rng.randbytes(length).decode("utf-8", "replace"),
        rng.randbytes(length).decode("latin-1"),
        mixed[: length // 8],
        (one * length)[:length],
        ((one + other) * length)[:length],
        one * (length // 8 // len(one)) + "7" + other * (length // 8 // len(other)),
        rf"\boxed{{{(one + other) * 20}}}",
        rf"\boxed{{{''.join(rng.choices(PIECES, k=12))}}}",
    ]


def cpu_seconds() -> float:
    """CPU time of this process and of its scoring processes, ended ones included."""
    total = time.process_time()
    for child in psutil.Process().children():
        for process in (child, *child.children()):
            times = process.cpu_times()
            total += times.user + times.system + (times.children_user + times.children_system) * (process == child)
    return total


def assert_in_bounds(task: str, texts: Iterable[str], seconds: float = 2) -> None:
    """Score texts; each takes at most this CPU time, and this process no more than 200 MB for any of them."""
    scorer, gold = TASKS[task]
    example = Example(id="x", index=0, question="?", answer=gold, gold=gold, choices=CHOICES)
    scorer.score("#### 1", example)  # starts what scoring needs
    seconds_of = cpu_seconds if isinstance(scorer, CompetitionMath) else time.process_time
    for text in texts:
        before, memory = seconds_of(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        scorer.score(text, example)
        assert seconds_of() - before < seconds, text[:200]
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000  # kB


# The others score as one of these does.
QUICK = ("gsm8k", "math", "hotpotqa", "letter", "choice_likelihood")
QUICK_TASKS = [task if task in QUICK else pytest.param(task, marks=pytest.mark.slow) for task in TASKS]


@pytest.mark.parametrize("task", QUICK_TASKS)
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 40))])
def test_any_bytes_are_scored_in_bounds(task: str, seed: int) -> None:
    assert_in_bounds(task, inputs(seed))


SIGNS = (*string.punctuation, "\t", "\n", " ", "1", "a", "A", *SHORT)
LETTERS = (*string.ascii_letters, *string.digits, *PIECES)


def runs(pieces: Iterable[str], size: int) -> Iterator[str]:
    """Each piece repeated, and brackets that are nested."""
    yield from ((piece * size)[:size] for piece in pieces)
    yield from (begin * (size // 2 // len(begin)) + end * (size // 2 // len(begin)) for begin, end in NESTED)


@pytest.mark.slow
@pytest.mark.parametrize("task", QUICK)
def test_shorter_runs_of_every_sign_are_scored_in_bounds(task: str) -> None:
    assert_in_bounds(task, runs(SIGNS, SIZE // 8), seconds=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("pieces", [SIGNS, LETTERS], ids=["signs", "letters"])
@pytest.mark.parametrize("task", TASKS)
def test_every_sign_and_short_piece_repeated_is_scored_in_bounds(task: str, pieces: tuple[str, ...]) -> None:
    assert_in_bounds(task, runs(pieces, SIZE))


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.binary(max_size=300), st.sampled_from(PIECES), st.integers(1, SIZE))
def test_any_bytes_repeated_are_scored_in_bounds(data: bytes, piece: str, length: int) -> None:
    text = ((data.decode("utf-8", "replace") + piece) * length)[:length]
    for task in TASKS:
        assert_in_bounds(task, [text])


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 20))])
def test_rows_of_any_bytes_are_examples_or_refused_in_bounds(seed: int) -> None:
    mapped = MappedTask(known_mapping("arc_challenge"))
    for text in inputs(seed):
        labels = {"text": [text, "b", "c"], "label": [text[:9], "B", "C"]}
        rows = [
            (GSM8K(), {"question": text, "answer": text}),
            (GSM8K(), {"question": "?", "answer": f"#### {text}"}),
            (CompetitionMath(), {"problem": text, "solution": text}),
            (HotpotQA(), {"question": text, "answer": text, "context": text}),
            (mapped, {"question": text, "choices": labels, "answerKey": text[:9]}),
        ]
        for task, fields in rows:
            before = time.process_time()
            with suppress(RowError):
                task.example(DataRow(fields=fields, file="file", place="line 1"), "train", 0)
            assert time.process_time() - before < 2, text[:200]


@pytest.mark.parametrize("is_new", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["warm", "new"])
def test_a_busy_machine_changes_no_score(is_new: bool) -> None:
    task, gold = TASKS["math"]
    example = Example(id="x", index=0, question="?", answer=gold, gold=gold)
    outputs = [
        r"\boxed{0.5}",
        r"\boxed{\sin(\pi/6)}",
        r"\boxed{\frac{2}{4}+\frac{x}{x}-1}",
        "so it is $1/2$",
        r"\boxed{2}",
    ]
    quiet = [task.score(output, example) for output in outputs]
    if is_new:
        VERDICTS.close()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * (os.cpu_count() or 1))]
    try:
        assert [task.score(output, example) for output in outputs] == quiet
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert [score.stopped for score in quiet] == [None] * len(outputs)
    assert [score.flexible for score in quiet] == [True, True, True, True, False]


def test_scoring_processes_cannot_take_a_gigabyte() -> None:
    assert VERDICTS.memory == MEMORY < 10**9
    assert VERDICTS.seconds < 1  # of two: what a busy machine adds is not of the call
