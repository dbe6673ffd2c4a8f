"""What all tests share: nothing is written into the checkout, and what is slow to make is made once."""

import gc
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.disks import disk  # noqa: F401
from tests.support.embedded_campaigns import undisturbed  # noqa: F401
from tests.support.faults import RECOVERY_S
from tests.support.mlflow_store import copy_database, empty_database
from tests.support.ray_fixtures import connected_ray, ray_head  # noqa: F401
from tests.support.real_model import REAL_MODEL

os.environ["ABLATE_REPORTS"] = tempfile.mkdtemp(prefix="reports-")
os.environ.setdefault("RAY_worker_niceness", "0")  # at Ray's 15 its workers get what other tests leave


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share out the tests file by file, the integration tests in rows."""
    from tests.support.xdist_schedule import TwoClustersAtMost

    return TwoClustersAtMost(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long cells of the fault matrix unless `make faults` asks for them."""
    if os.environ.get("FAULTS") == "all":
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed torch before a test and its fixtures, so that no test's numbers depend on what ran before it."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how long recovery from each fault took, for the table in docs/reliability.md."""
    for report in terminalreporter.getreports("passed"):
        for name, seconds in report.user_properties:
            if name == RECOVERY_S and report.when == "call":
                terminalreporter.write_line(f"recovery after {seconds:5.1f} s: {report.nodeid}")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Spare garbage collections the modules and tests that stay to the end: a full one took a quarter of a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_model() -> Path:
    """Return the folder of SmolLM2-135M-Instruct; tests that use it carry the mark `real`."""
    if not (REAL_MODEL / "model.safetensors").is_file():
        pytest.skip(f"no real model in {REAL_MODEL}: `make real` fetches it")
    return REAL_MODEL


@pytest.fixture(scope="session")
def mlflow_database() -> Path:
    """Return an MLflow database with tables and without experiments, to be copied."""
    return empty_database()


@pytest.fixture
def storage(tmp_path: Path, mlflow_database: Path) -> Path:
    """Return an empty storage whose MLflow database has its tables already."""
    return copy_database(mlflow_database, tmp_path)
