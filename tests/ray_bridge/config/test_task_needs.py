"""What a task needs of a job: room for its answers, exemplars and stop texts, unless something else is asked for."""

from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from ray_bridge import TASKS, JobSpec, build, fingerprint, paper, tiny
from ray_bridge.config.task_mapping import TaskMapping, known_mapping
from ray_bridge.config.task_needs import need_of, task_needs
from ray_bridge.tasks.splits import make_task
from ray_bridge.tasks.task import Example
from tests.support.plugin_modules import importable


def needs(spec: JobSpec) -> tuple[int, int]:
    return spec.max_new_tokens, spec.num_fewshot


def test_each_task_brings_its_own() -> None:
    by_task = {entry.name: needs(paper(task=entry.name)) for entry in TASKS.entries() if entry.name != "mapped"}
    choice = (16, 5)
    assert by_task == {
        **{"synthetic": (72, 0), "gsm8k": (256, 8), "math": (1024, 4), "hotpotqa": (32, 2)},
        **dict.fromkeys(("arc_challenge", "openbookqa", "mmlu_redux", "ceval"), choice),
    }
    hidden = known_mapping("arc_challenge").replace(kind="choice_likelihood")
    assert needs(paper(task="mapped", task_mapping=hidden)) == (32, 0)


def test_what_is_asked_for_counts() -> None:
    assert needs(paper(task="math", max_new_tokens=300, num_fewshot=0)) == (300, 0)
    assert needs(tiny(task="hotpotqa")) == (32, 0)  # the preset shows no exemplars


def test_another_task_takes_its_own_needs_but_not_over_other_values() -> None:
    assert needs(paper().replace(task="hotpotqa")) == (32, 2)
    assert needs(paper(max_new_tokens=300).replace(task="hotpotqa")) == (300, 2)
    assert needs(paper().replace(task="math", num_fewshot=8)) == (1024, 8)
    assert paper().replace(task="math").replace(task="gsm8k") == paper()


def test_a_class_of_ones_own_says_what_it_needs(tmp_path: Path) -> None:
    with importable(tmp_path):
        (tmp_path / "long_answers.py").write_text(
            "from ray_bridge.tasks.synthetic.task import SyntheticTask\n\n\n"
            "class Long(SyntheticTask):\n    max_new_tokens = 900\n"
        )
        assert needs(paper(task="long_answers:Long")) == (900, 0)


def test_wrong_fields_are_said_without_those_that_follow_from_them() -> None:
    with pytest.raises(UserError) as refused:
        tiny(task="gsm9k")
    assert "num_fewshot" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "stops"),
    [(r"\n\n,\nQ:", ("\n\n", "\nQ:")), ('["a, b", "\\n"]', ("a, b", "\n")), (["x"], ("x",)), ([], ())],
)
def test_stop_texts_replace_the_task_s(given: Any, stops: tuple[str, ...]) -> None:
    spec = tiny(stops=given)
    assert spec.stops == stops
    task = make_task(spec)
    assert task.stops == stops
    example = Example(id="0", index=0, question="?", answer="", gold="")
    assert task.answer_text("one" + "".join(stops[:1]) + "two", example) == ("one" if stops else "onetwo")
    assert build(JobSpec, spec.flat()) == spec
    assert fingerprint(spec) != fingerprint(tiny())
    assert make_task(tiny()).stops == ("\nQuestion:", "\nQ:")  # other jobs of the process keep the task's own


def test_stop_texts_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(UserError, match=r"stops='.*no JSON list"):
        tiny(stops='["a"')


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("exact", {"max_new_tokens": 32, "num_fewshot": 5}),
        ("numeric", {"max_new_tokens": 256, "num_fewshot": 8}),
        ("letter", {"max_new_tokens": 16, "num_fewshot": 5}),
        ("letter_likelihood", {"max_new_tokens": 16, "num_fewshot": 5}),
        ("choice_likelihood", {"max_new_tokens": 32, "num_fewshot": 0}),
    ],
)
def test_a_mapped_task_needs_what_its_kind_does(kind: Any, expected: dict[str, int]) -> None:
    choices = None if kind in ("exact", "numeric") else "options"
    mapping = TaskMapping(name="mine", kind=kind, question="q", gold="a", choices=choices)
    assert task_needs("mapped", mapping) == expected
    assert need_of("num_fewshot", {"task": "mapped", "task_mapping": mapping}) == expected["num_fewshot"]


def test_needs_are_copies_that_a_caller_may_change() -> None:
    task_needs("arc_challenge", known_mapping("arc_challenge"))["num_fewshot"] = 99
    assert task_needs("arc_challenge", known_mapping("arc_challenge"))["num_fewshot"] == 5
