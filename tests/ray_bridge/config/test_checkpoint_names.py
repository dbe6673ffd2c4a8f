"""What the name of a checkpoint stands for: the embedded pair, a folder of this machine, or a model of the hub."""

from pathlib import Path

import pytest

from bridge_common.errors import UserError
from ray_bridge.config.checkpoint_names import resolve


def checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_the_embedded_pair_ships_with_the_package() -> None:
    source, target = Path(resolve("embedded:source")), Path(resolve("embedded:target"))
    assert (source.name, target.name) == ("source", "target")
    assert (source / "model.safetensors").is_file()
    assert (target / "model.safetensors").is_file()


def test_a_folder_has_the_same_name_from_wherever_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint(tmp_path / "models" / "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert {resolve(name) for name in (str(folder), "models/mine", "./models/mine", "~/models/mine")} == {str(folder)}


def test_a_name_with_one_slash_that_is_no_folder_is_of_the_hub() -> None:
    assert resolve("owner/model") == "owner/model"


@pytest.mark.parametrize("name", ["model", "a/b/c", "/nowhere", "/nowhere/model", "./model", ".a/model", "~/model"])
def test_a_path_that_does_not_exist_is_no_name_of_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=f"no checkpoint at {name}: give a folder written by save_pretrained"):
        resolve(name)


def test_a_folder_without_a_model_and_an_unknown_embedded_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config\.json"):
        resolve(str(tmp_path))
    with pytest.raises(UserError, match="'embedded:both': there are embedded:source and embedded:target"):
        resolve("embedded:both")
