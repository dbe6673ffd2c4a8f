"""A pair of small random checkpoints and a finished job on it, made once for all tests of `ray_bridge`."""

from pathlib import Path

import pytest

from ray_bridge.config.spec import JobSpec
from tests.support.local_jobs import run_job, small_spec
from tests.support.model_pairs import PairFolders, make_pair


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> PairFolders:
    """Return a Mistral-like source and a Llama-like target with random weights: read, never written."""
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="session")
def spec(folders: PairFolders) -> JobSpec:
    """Return the spec of a job of 12 steps."""
    return small_spec(folders)


@pytest.fixture(scope="session")
def finished(spec: JobSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of that job, run to its end: read, never written."""
    folder = tmp_path_factory.mktemp("finished")
    run_job(spec, folder)
    return folder
