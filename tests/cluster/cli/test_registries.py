"""`fields`, `tasks`, `bridges`, `toggles`: what a request may name, with meaning and default, of plug-ins too."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cluster.cli.app import app
from ray_bridge import JobSpec, RunSpec
from tests.support.documents import blocks
from tests.support.plugin_modules import EXAMPLE, importable


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[str]:
    """A module with a task, a bridge and a toggle, which gives its classes no names."""
    with importable(tmp_path):
        unnamed = [block for block in blocks("docs/plugins.md", "python") if "TASKS.register" not in block]
        (tmp_path / "my_plugin.py").write_text("\n".join(unnamed))
        yield "my_plugin"


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    return " ".join(done.output.split())


def listed(*arguments: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    return list(json.loads(done.output))


def test_every_field_with_type_default_and_meaning() -> None:
    rows = {row["name"]: row for row in listed("fields")}
    assert set(rows) == {*JobSpec.model_fields, *RunSpec.model_fields}
    assert all(row["type"] and row["meaning"] for row in rows.values())
    assert rows["soft_tokens"] | {"meaning": ""} == {
        "name": "soft_tokens",
        "spec": "JobSpec",
        "type": "int, ≥ 1, ≤ 4096",
        "default": 64,
        "meaning": "",
    }
    assert rows["layout"]["type"] == "soft_plus_text | soft_only"
    assert rows["test_examples"]["type"] == "int, ≥ 1 or none"
    assert rows["adapter_layers"]["type"] == "int,..."
    assert rows["workers"]["spec"] == "RunSpec"
    text = shown("fields")
    assert all(f"{name}=" in text for name in rows)
    assert "kl_alignment=true" in text


def test_tasks_and_bridges() -> None:
    assert [row["name"] for row in listed("tasks")][:4] == ["synthetic", "gsm8k", "math", "hotpotqa"]
    assert [row["name"] for row in listed("bridges") if row["default"]] == ["dit"]
    assert "hotpotqa multi-hop questions" in shown("tasks")
    assert {row["name"]: row["needs"] for row in listed("tasks") if "needs" in row}["hotpotqa"] == {
        "max_new_tokens": 32,
        "num_fewshot": 2,
        "stops": ["\n"],
    }
    assert r'max_new_tokens=16, num_fewshot=5, stops="\nQuestion:" "\nQ:")' in shown("tasks")
    assert all(row["meaning"] and row["class"] for row in listed("bridges"))


def test_toggles_with_effect_default_and_column() -> None:
    rows = {row["key"]: row for row in listed("toggles")}
    assert list(rows) == ["kl", "prompt", "decode", "projection"]
    assert rows["projection"]["column"] == "RoPE/tokenizer projection"
    assert {row["default"] for row in rows.values()} == {"on"}
    assert "kl kl_alignment, on by default, column 'KL alignment'. on: KL(teacher" in shown("toggles")


def test_what_a_plug_in_adds(plugin: str) -> None:
    assert "extra.rank=8 dimensions of that space (bridge my_plugin:LowRank) [int]" in shown(
        "fields", "--plugin", plugin
    )
    assert listed("tasks", "--plugin", plugin)[-1] == {
        "name": "my_plugin:Sums",
        "default": False,
        "class": "my_plugin:Sums",
        "meaning": "Sums of two numbers",
        "settings": {"extra.largest": 20},
    }
    assert "my_plugin:LowRank Resampler whose soft tokens lie in a space of few dimensions (extra.rank=8)" in shown(
        "bridges", "--plugin", plugin
    )
    toggle = listed("toggles", "--plugin", plugin)[-1]
    assert (toggle["key"], toggle["field"], toggle["default"], toggle["off"]) == ("rank", "extra.rank", "on", 64)


def test_names_that_a_plug_in_registers(tmp_path: Path) -> None:
    with importable(tmp_path):
        (tmp_path / "my_plugin.py").write_text(EXAMPLE)
        assert [row["name"] for row in listed("tasks", "--plugin", "my_plugin")][-1] == "sums"
        assert [row["name"] for row in listed("bridges", "--plugin", "my_plugin")][-1] == "low_rank"


def test_help_shows_the_toggle_of_a_plug_in(plugin: str) -> None:
    assert "rank (extra.rank): on: soft tokens in 8 dimensions" in shown("ablate", "--plugin", plugin, "--help")


def test_the_search_space_of_a_phase() -> None:
    found = json.loads(shown("space", "phase3", "--preset", "paper", "--json"))
    assert {64, 128, 256, 512} <= set(found["space"]["soft_tokens"])
    assert found["variants"]["k256"]["soft_tokens"] == 256
    assert all(own[name] in values for own in found["variants"].values() for name, values in found["space"].items())
    assert "config/soft_tokens 64, 128, 256, 512" in shown("space", "phase3", "--preset", "paper")
    assert "config/soft_tokens 4, 8, 16, 32, 64" in shown("space", "phase3")
    assert "text_budgets" not in found["space"], "baselines are no setting of a translator"
    held = json.loads(shown("space", "phase1", "--set", "decode_aware=false", "--json"))
    assert held["variants"]["full"]["decode_aware"] is False
