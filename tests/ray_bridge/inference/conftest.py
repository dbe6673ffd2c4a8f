"""A finished trial and its translator, loaded once for all tests of its use."""

from pathlib import Path

import pytest

from bridge_common.files import read_json, write_json
from ray_bridge import Translator
from ray_bridge.config.spec import JobSpec
from ray_bridge.inference.bundle import write_bundle


@pytest.fixture(scope="module")
def trial(finished: Path, spec: JobSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished trial, as a campaign leaves it."""
    folder = tmp_path_factory.mktemp("campaign") / "trials" / "full-0"
    folder.mkdir(parents=True)
    for path in finished.iterdir():
        (folder / path.name).symlink_to(path)
    write_json(folder / "spec.json", {"variant": "full", "seed": 0, "fingerprint": "0" * 16, "spec": spec.model_dump()})
    metrics = read_json(finished / "metrics.json")
    write_json(folder / "result.json", {"metrics": metrics, "workers": 1, "selected_step": 12, "training_seconds": 3.0})
    return folder


@pytest.fixture(scope="module")
def translator(trial: Path) -> Translator:
    return Translator.load(trial, device="cpu")


@pytest.fixture(scope="module")
def bundle(translator: Translator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "bundle"
    write_bundle(translator.to_export, folder)
    return folder
