"""Exported folders, bundles and hub repositories import no code that their user has not named."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from bridge_common.files import read_json, write_json
from ray_bridge import Translator
from ray_bridge.inference.export import write_export
from ray_bridge.inference.trust import is_own_trial
from tests.support.command_line import call_here
from tests.support.plugin_modules import importable

CODE = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
TASK = "from ray_bridge.tasks.synthetic.task import SyntheticTask\n\n\nclass Mine(SyntheticTask):\n    pass\n"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """Return a folder whose modules can be imported, with one that leaves the file `ran` when it is."""
    (tmp_path / "stranger.py").write_text(CODE + TASK)
    with importable(tmp_path):
        yield tmp_path


@pytest.fixture(scope="module")
def exported(translator: Translator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "export"
    write_export(translator.to_export, folder)
    return folder


def naming(exported: Path, place: Path, **changes: Any) -> Path:
    """Copy an export whose spec names other things."""
    folder = shutil.copytree(exported, place)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"spec": config["spec"] | changes})
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"bridge": "stranger:Bridge"},
        {"task": "stranger:Mine"},
        {"task": " stranger:Mine"},
        {"plugins": ["stranger"]},
        {"plugins": " stranger ,"},
        {"plugins": ["math", "stranger"]},
    ],
)
@pytest.mark.parametrize("load", [Translator.load, Translator.from_pretrained])
def test_named_code_is_refused_before_it_runs(load, exported: Path, here: Path, changes: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
    folder = naming(exported, here / "export", **changes)
    with pytest.raises(UserError, match=r"names code to import, .*'stranger'.*--plugin stranger") as raised:
        load(folder, plugins=("math", "stranger.other"))
    assert "\n" not in str(raised.value)
    assert not (here / "ran").exists()


@pytest.mark.parametrize("load", [Translator.load, Translator.from_pretrained])
def test_a_trusted_module_is_imported(load, translator: Translator, exported: Path, here: Path) -> None:  # type: ignore[no-untyped-def]
    folder = naming(exported, here / "export", plugins=["stranger"])
    models = {"source": translator.pair.source, "target": translator.pair.target}
    assert load(folder, plugins=("stranger",), **models).spec.plugins == ("stranger",)
    assert (here / "ran").exists()


def test_an_exported_folder_does_not_pass_for_a_trial(trial: Path, exported: Path, here: Path) -> None:
    """A `spec.json`, or a folder named `trials`, does not make a downloaded folder one's own."""
    record = read_json(trial / "spec.json")
    record["spec"] |= {"plugins": ["stranger"]}
    outside = shutil.copytree(trial, here / "outside")
    beside = shutil.copytree(trial, here / "trials" / "beside")
    shutil.copy(exported / "config.json", beside)
    for folder in (outside, beside):
        write_json(folder / "spec.json", record)
        with pytest.raises(UserError, match="names code to import, 'stranger'"):
            Translator.load(folder)
        assert not (here / "ran").exists()


def test_a_trial_of_ones_own_storage_imports_its_plugins(trial: Path, here: Path, translator: Translator) -> None:
    own = shutil.copytree(trial, here / "runs" / "campaign" / "trials" / "full-0")
    record = read_json(own / "spec.json")
    record["spec"] |= {"plugins": ["stranger"]}
    write_json(own / "spec.json", record)
    assert is_own_trial(own)
    models = {"source": translator.pair.source, "target": translator.pair.target}
    assert Translator.load(own, **models).spec.plugins == ("stranger",)


@pytest.mark.parametrize("command", ["translate", "verify", "export", "benchmark"])
def test_commands_exit_with_2_in_one_line(command: str, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "stranger.py").write_text(CODE + TASK)
    naming(exported, tmp_path / "export", task="stranger:Mine")
    (tmp_path / "export" / "samples.jsonl").write_text("{}\n")  # as in a bundle, which alone can be verified
    rest = {"translate": ["What is 1 + 1?"], "export": ["new"]}.get(command, [])
    done = call_here(command, "export", *rest, folder=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "--plugin stranger" in done.stderr
    assert not (tmp_path / "ran").exists()
