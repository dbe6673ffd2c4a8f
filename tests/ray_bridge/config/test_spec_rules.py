"""Which fields of a job fit together, and how texts of a command line become lists."""

from typing import Any

import pytest

from bridge_common.errors import UserError
from ray_bridge.config.presets import preset, split_settings, tiny


@pytest.mark.parametrize(
    ("wrong", "message", "right"),
    [
        ({"hidden_size": 100, "num_heads": 8}, "hidden_size 100 must be a multiple of num_heads 8", {"num_heads": 10}),
        (
            {"layout": "soft_only", "soft_position": "before_question"},
            "soft_position before_question needs layout soft_plus_text",
            {"soft_position": "first"},
        ),
        (
            {"layout": "soft_only", "injection": "residual"},
            "injection residual needs layout soft_plus_text",
            {"injection": "prepend"},
        ),
        ({"adapter_layers": (1,)}, "adapter_layers needs injection adapter", {"injection": "adapter"}),
        ({"prompt_share": 0.5}, "prompt_share needs layout soft_only", {"layout": "soft_only"}),
        (
            {"decode_weight": 0, "on_policy_distill": 0},
            "decode_aware is on but decode_weight and on_policy_distill are both 0",
            {"decode_aware": False},
        ),
        (
            {"decode_weight": 0, "on_policy_distill": 0},
            "set one of them",
            {"on_policy_distill": 0.1},
        ),
        (
            {"decode_weight": 0, "on_policy_distill": 0},
            "set one of them",
            {"decode_weight": 0.1},
        ),
        ({"task": "arc_challenge", "task_revision": "main"}, "name revisions in the mapping", {"task_revision": None}),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(
    wrong: dict[str, Any], message: str, right: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=message):
        tiny(**wrong)
    tiny(**{**wrong, **right})


def test_lists_are_given_with_commas() -> None:
    assert tiny(injection="adapter", adapter_layers="2, 4,").adapter_layers == (2, 4)
    assert tiny(injection="adapter", adapter_layers=[2, 4]).adapter_layers == (2, 4)
    assert tiny(stops=r"\t,a,,b").stops == ("\t", "a", "b")
    assert tiny(plugins="json, json ,re").plugins == ("json", "re")


def test_another_task_has_neither_data_nor_revision_of_the_last_one() -> None:
    spec = tiny(task="gsm8k", task_data="/data", task_revision="main")
    assert (spec.replace(steps=3).task_data, spec.replace(steps=3).task_revision) == ("/data", "main")
    other = spec.replace(task="math")
    assert (other.task_data, other.task_revision) == (None, None)
    assert spec.replace(task="math", task_data="/math").task_data == "/math"
    mapped = tiny(task="arc_challenge").replace(task="openbookqa")
    assert mapped.task_mapping is not None
    assert mapped.task_mapping.name == "openbookqa"
    assert mapped == tiny(task="openbookqa")


def test_settings_of_a_plug_in_are_given_by_name_or_together() -> None:
    with pytest.raises(UserError, match=r"unknown field 'extra\.rank': task synthetic and bridge dit_xattn have no"):
        tiny(extra={"rank": 1})
    assert tiny(extra={}) == tiny()


def test_both_specs_of_a_preset_take_their_changes() -> None:
    job, run = preset("paper")
    assert (job.num_fewshot, run.workers) == (8, 4)
    job, run = preset("tiny", {"steps": 3}, {"workers": 1})
    assert (job.steps, run.workers) == (3, 1)
    assert split_settings({"steps": 3, "use_gpu": True, "stepz": 1}) == ({"steps": 3, "stepz": 1}, {"use_gpu": True})


@pytest.mark.parametrize(("injection", "inserted"), [("prepend", 16), ("residual", 0), ("adapter", 0)])
def test_soft_tokens_lengthen_the_sequence_only_if_they_are_inserted(injection: str, inserted: int) -> None:
    assert tiny(injection=injection).inserted == inserted
