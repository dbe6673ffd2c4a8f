"""Task mappings: read from TOML, part of a spec and of its fingerprint, refused in one line."""

import json
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from ray_bridge import JobSpec, build, fingerprint, tiny
from ray_bridge.config.task_mapping import TaskMapping, known_mapping, known_mappings, read_mapping

MINE = """
name = "trivia"
kind = "exact"
question = "q"
gold = "a"

[train]
data = "me/trivia"
split = "train"

[test]
data = "me/trivia"
split = "validation"
"""


def mine(tmp_path: Path, text: str = MINE) -> TaskMapping:
    (tmp_path / "trivia.toml").write_text(text)
    return read_mapping(tmp_path / "trivia.toml")


def test_the_package_has_a_mapping_for_each_set_that_rivals_report() -> None:
    assert known_mappings() == ("arc_challenge", "ceval", "mmlu_redux", "openbookqa")
    assert {known_mapping(name).name for name in known_mappings()} == set(known_mappings())


def test_a_name_brings_its_mapping_into_the_spec() -> None:
    spec = tiny(task="arc_challenge")
    assert spec.task_mapping == known_mapping("arc_challenge")
    assert build(JobSpec, json.loads(json.dumps(spec.flat()))) == spec


def test_specs_of_other_tasks_keep_record_and_fingerprint() -> None:
    assert "task_mapping" not in tiny().flat()
    assert fingerprint(tiny()) == "84c9575e4d69001d"
    changed = tiny(task="arc_challenge").replace(task="synthetic")
    assert (changed, fingerprint(changed)) == (tiny(), fingerprint(tiny()))


def test_every_field_of_a_mapping_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    mapping = mine(tmp_path)
    assert mapping.train is not None
    changed = [
        mapping,
        mapping.replace(question="question"),
        mapping.replace(answer_cue="A:"),
        mapping.replace(keep={"ok": "yes"}),
        mapping.replace(train=mapping.train.replace(revision="a" * 40)),
    ]
    assert len({fingerprint(tiny(task="mapped", task_mapping=each)) for each in changed}) == len(changed)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "exact"', 'kind = "essay"', "trivia.toml: kind='essay'"),
        ('kind = "exact"', 'kind = "letter"', "kind letter needs choices"),
        ('gold = "a"', 'gold = "a"\nchoices = "c"', "kind exact has no choices"),
        ('gold = "a"', "", "gold"),
        ('gold = "a"', 'gold = "a"\ngolden = "b"', "unknown field 'golden'"),
        ('[train]\ndata = "me/trivia"\nsplit = "train"\n', "", "name both [train] and [test], or neither"),
        ("kind", "kind kind", "trivia.toml: "),
        ('name = "trivia"', 'name = "../trivia"', "name='../trivia'"),
    ],
)
def test_a_faulty_mapping_is_one_line_with_its_file(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        mine(tmp_path, MINE.replace(old, new, 1))
    assert message in str(caught.value)
    assert "trivia.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.toml"):
        read_mapping(tmp_path / "nothing.toml")


def test_task_and_mapping_belong_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"name its file, --task FILE\.toml"):
        tiny(task="mapped")
    with pytest.raises(UserError, match="task_mapping belongs to the task mapped, not to gsm8k"):
        tiny(task="gsm8k", task_mapping=mine(tmp_path))
    with pytest.raises(UserError, match="name revisions in the mapping"):
        tiny(task="arc_challenge", task_revision="main")


CHOICES = {"kind": "letter", "choices": "options.text"}


def test_fields_of_choices_belong_to_kinds_with_choices(tmp_path: Path) -> None:
    mapping = mine(tmp_path)
    shown = mapping.replace(**CHOICES, labels="options.label", gold_form="label")
    assert (shown.labels, shown.gold_form) == ("options.label", "label")
    for kind in ("letter", "letter_likelihood", "choice_likelihood"):
        assert mapping.replace(kind=kind, choices=("a", "b")).has_choices
    for kind in ("exact", "numeric"):
        assert not mapping.replace(kind=kind).has_choices
        for change in ({"choices": "c"}, {"labels": "l"}, {"gold_form": "index"}):
            with pytest.raises(UserError, match=f"kind {kind} has no choices: remove choices, labels and gold_form"):
                mapping.replace(kind=kind, **change)


def test_a_mapping_has_both_splits_on_the_hub_or_neither(tmp_path: Path) -> None:
    mapping = mine(tmp_path)
    assert mapping.replace(train=None, test=None).train is None
    for part in ("train", "test"):
        with pytest.raises(UserError, match="name both"):
            mapping.replace(**{part: None})


def test_a_mapping_may_start_with_a_byte_order_mark_and_is_read_as_utf_8(tmp_path: Path) -> None:
    text = MINE.replace('gold = "a"', 'gold = "a"\nquestion_cue = "Питање: "')
    (tmp_path / "trivia.toml").write_text(text, encoding="utf-8-sig")
    assert read_mapping(tmp_path / "trivia.toml").question_cue == "Питање: "
    (tmp_path / "trivia.toml").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"task mapping .*trivia.toml: .*see docs/tasks.md for an example"):
        read_mapping(tmp_path / "trivia.toml")
