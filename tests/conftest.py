"""What every test shares: nothing is written into the checkout, and a real model where `make real` has fetched one."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.support.real_model import REAL_MODEL

os.environ["ABLATE_REPORTS"] = tempfile.mkdtemp(prefix="reports-")


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The folder of SmolLM2-135M-Instruct; tests that use it carry the mark `real`."""
    if not (REAL_MODEL / "model.safetensors").is_file():
        pytest.skip(f"no real model in {REAL_MODEL}: `make real` fetches it")
    return REAL_MODEL
