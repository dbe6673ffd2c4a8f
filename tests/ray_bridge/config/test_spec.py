"""Specs refuse what makes no sense, in one line, and name an experiment wherever it runs."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from bridge_common.errors import UserError
from ray_bridge import BRIDGES, TASKS
from ray_bridge.config.fingerprint import canonical, fingerprint
from ray_bridge.config.presets import paper, paper_run, preset, split_settings, tiny, tiny_run
from ray_bridge.config.run_spec import RunSpec, check_run
from ray_bridge.config.spec import JobSpec
from tune_spaces.design.toggles import all_toggles


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stepz": 3}, "unknown field 'stepz': did you mean steps"),
        ({"steps": -1}, "steps=-1: input should be greater than or equal to 0"),
        (
            {"bridge": "rnn"},
            "bridge='rnn': there are dit, resampler, dit_xattn, linear, c2c, constant; a class of your own is "
            "MODULE:CLASS",
        ),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"hidden_size": 100, "num_heads": 8}, "multiple of num_heads"),
        ({"layout": "soft_only", "soft_position": "before_question"}, "soft_only has no header"),
    ],
)
def test_impossible_values_are_one_clear_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        tiny(**change)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_from_a_command_line_are_read_as_the_fields_type() -> None:
    job, run = split_settings({"steps": "12", "kl_alignment": "false", "workers": "3"})
    spec, where = preset("tiny", job, run)
    assert (spec.steps, spec.kl_alignment, where.workers) == (12, False, 3)


def test_unknown_preset_names_the_known() -> None:
    with pytest.raises(UserError, match="tiny or paper"):
        preset("huge")


def test_every_field_says_what_it_means() -> None:
    for spec_type in (JobSpec, RunSpec):
        assert all(field.description for field in spec_type.model_fields.values())


def test_a_toggles_field_names_its_key_and_column_and_says_what_false_does() -> None:
    for toggle in all_toggles():
        description = JobSpec.model_fields[toggle.field].description
        assert description is not None
        assert description.startswith(f"toggle {toggle.key}, column '{toggle.column}': ")
        assert "False: " in description


def test_every_choice_of_a_field_is_named_in_its_description() -> None:
    registered = {"task": TASKS, "bridge": BRIDGES}
    for name, field in JobSpec.model_fields.items():
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        choices = [entry.name for entry in registered[name].entries()] if name in registered else choices
        if name != "model_dtype":  # names of dtypes need no words
            assert [choice for choice in choices if choice not in str(field.description)] == [], name


def test_the_paper_preset_is_the_plan() -> None:
    spec, run = paper(), paper_run()
    assert (spec.bridge, spec.sampler_steps, spec.soft_tokens, spec.layout) == ("dit", 4, 64, "soft_plus_text")
    assert all(getattr(spec, name) for name in ("kl_alignment", "prompt_alignment", "decode_aware"))
    assert spec.geometry_projection
    assert (run.workers, spec.batch_size // run.workers, run.eval_batch_size, run.use_gpu) == (4, 2, 36, True)


def test_prompt_weight_follows_its_toggle() -> None:
    assert tiny(prompt_alignment=True).prompt_weight == 0.001
    assert tiny(prompt_alignment=False).prompt_weight == 0.05


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match="use a multiple of 3"):
        check_run(tiny(batch_size=16), tiny_run(workers=3))


def test_fingerprint_is_the_same_in_another_process_and_differs_by_field() -> None:
    code = "from ray_bridge import fingerprint, tiny; print(fingerprint(tiny()))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert fingerprint(tiny()) == other
    changes: list[dict[str, Any]] = [{"seed": 1}, {"kl_alignment": False}, {"soft_tokens": 8}, {"eval_every": 7}]
    names = {fingerprint(tiny(**change)) for change in [{}, *changes]}
    assert len(names) == len(changes) + 1


def test_fingerprint_follows_content_not_place(tmp_path: Path) -> None:
    first, moved = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    (first / "config.json").write_text("{}")
    (first / "model.safetensors").write_bytes(bytes(range(256)) * 40_000)
    shutil.copytree(first, moved)
    name = fingerprint(tiny(source=str(first)))
    assert name == fingerprint(tiny(source=str(moved)))
    data = bytearray((moved / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (moved / "model.safetensors").write_bytes(bytes(data))
    assert name != fingerprint(tiny(source=str(moved)))


@pytest.mark.parametrize("value", [{1, 2}, object(), float("inf"), {1: "a"}, [b"x"]])
def test_values_without_a_stable_form_are_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical(value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/nowhere/at/all", "no checkpoint at /nowhere/at/all"),
        ("./nowhere", "no checkpoint at ./nowhere"),
        ("embedded:other", "there are embedded:source and embedded:target"),
    ],
)
def test_a_missing_checkpoint_is_named(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fingerprint(tiny(target=name))


def test_workers_divide_into_groups_that_hold_a_target_and_the_batch_among_the_groups() -> None:
    check_run(tiny(batch_size=3, target_shards=2), tiny_run(workers=2))
    check_run(tiny(batch_size=6, target_shards=2), tiny_run(workers=4))
    with pytest.raises(UserError, match="workers=2 does not divide by target_shards=4: use a multiple of 4"):
        check_run(tiny(target_shards=4), tiny_run(workers=2))
    with pytest.raises(UserError, match="batch_size 3 does not divide among 2 groups of workers: use a"):
        check_run(tiny(batch_size=3, target_shards=2), tiny_run(workers=4))
