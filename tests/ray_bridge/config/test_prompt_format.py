"""A job with conversations is refused before anything is loaded if one of its models has no chat template."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from ray_bridge.config.presets import tiny
from ray_bridge.config.prompt_format import check_prompt_format


def named(place: Path) -> None:
    place.write_text("{{ messages }}", encoding="utf-8")


def in_tokenizer(folder: Path) -> None:
    config = {"chat_template": "{{ 'π' }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")


def in_a_file(folder: Path) -> None:
    named(folder / "chat_template.jinja")


def among_several(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    named(folder / "additional_chat_templates" / "default.jinja")


def empty(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"chat_template": null}')


def missing(folder: Path) -> None:
    (folder / "chat_template.txt").write_text("")


def checkpoint(folder: Path, with_template: Callable[[Path], None]) -> str:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with_template(folder)
    return str(folder)


@pytest.mark.parametrize("with_template", [in_tokenizer, in_a_file, among_several])
def test_a_template_may_lie_in_any_of_its_places(tmp_path: Path, with_template: Callable[[Path], None]) -> None:
    name = checkpoint(tmp_path / "chats", with_template)
    check_prompt_format(tiny(source=name, target=name, prompt_format="chat"))


@pytest.mark.parametrize("without_template", [empty, missing])
@pytest.mark.parametrize("part", ["source", "target"])
def test_the_model_without_a_template_is_named(
    tmp_path: Path, part: str, without_template: Callable[[Path], None]
) -> None:
    models = {"source": checkpoint(tmp_path / "a", in_a_file), "target": checkpoint(tmp_path / "b", in_a_file)}
    models[part] = checkpoint(tmp_path / "silent", without_template)
    with pytest.raises(UserError, match=f"{models[part]} has no chat template: use --set prompt_format=raw"):
        check_prompt_format(tiny(**models, prompt_format="chat"))
    check_prompt_format(tiny(**models))


def test_models_of_the_hub_are_looked_at_when_they_are_loaded() -> None:
    check_prompt_format(tiny(source="owner/source", target="owner/target", prompt_format="chat"))
