"""What is said of values that a spec cannot have: every wrong field in one line, with what it takes."""

import pytest

from bridge_common.errors import UserError
from ray_bridge.config.presets import tiny
from ray_bridge.config.run_spec import RunSpec
from ray_bridge.config.spec import JobSpec
from ray_bridge.config.task_mapping import DataSource, TaskMapping
from ray_bridge.config.validation import build

MAPPING = {"name": "trivia", "kind": "exact", "question": "q", "gold": "a"}


def refused(spec_type: type, **values: object) -> str:
    with pytest.raises(UserError) as error:
        build(spec_type, values)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_wrong_field_is_named_in_one_line() -> None:
    said = refused(RunSpec, workers="many", cpus_per_worker=0, fraction=1)
    assert said.split("; ") == [
        "workers='many': input should be a valid integer, unable to parse string as an integer",
        "cpus_per_worker=0: input should be greater than 0",
        "unknown field 'fraction': there are workers, use_gpu, cpus_per_worker, eval_batch_size, checkpoint_every, "
        "log_every, max_failures, progress_timeout, resident, autocast, recompute_tokens",
    ]


def test_fields_of_a_nested_spec_are_named_with_their_path_and_its_own_fields() -> None:
    said = refused(TaskMapping, **MAPPING, train={"data": "me/x", "split": "train", "splits": 1})
    assert said == "unknown field 'train.splits': did you mean split?"
    said = refused(TaskMapping, **MAPPING, train={"data": "me/x", "split": 3})
    assert said == "train.split=3: input should be a valid string"
    said = refused(TaskMapping, **MAPPING, train={"data": "me/x", "split": "train", "zzzz": 1})
    assert said == "unknown field 'train.zzzz': there are data, config, split, revision"


def test_a_large_spec_does_not_list_all_its_fields() -> None:
    assert refused(JobSpec, zzzz=1) == "unknown field 'zzzz': `python -m cluster fields` lists them"


def test_a_rule_over_several_fields_is_said_in_its_own_words() -> None:
    said = refused(TaskMapping, **{**MAPPING, "kind": "letter"})
    assert said == "kind letter needs choices: name the field that lists them"
    assert refused(JobSpec, hidden_size=9, num_heads=2) == "hidden_size 9 must be a multiple of num_heads 2"


def test_an_error_of_a_plug_in_is_said_in_its_own_words() -> None:
    assert refused(JobSpec, task="sums").startswith("task='sums': there are synthetic")


def test_a_copy_with_changes_is_validated_and_the_original_stays() -> None:
    source = DataSource(data="me/x", split="train")
    assert source.replace(split="test") == DataSource(data="me/x", split="test")
    assert source.split == "train"
    with pytest.raises(UserError, match="unknown field 'splt': did you mean split"):
        source.replace(splt="test")
    with pytest.raises(UserError, match="batch_size=0"):
        tiny().replace(batch_size=0)
