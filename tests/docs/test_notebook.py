"""The notebook runs from its first to its last cell, with the few steps that it names for nbmake."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbmake.nb_run import NotebookRun

from tests.support.documents import ROOT

NOTEBOOK = ROOT / "examples" / "first_hour.ipynb"


@pytest.mark.slow
def test_the_first_hour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    copy = Path(shutil.copy(NOTEBOOK, tmp_path))  # its campaign is written beside it
    result = NotebookRun(copy, 500).execute()
    assert result.error is None, result.error
    cells = [cell for cell in result.nb.cells if cell.cell_type == "code"]
    printed = "".join(o.get("text", "") for cell in cells for o in cell.outputs)
    pictures = [o for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]
    assert "text_bridge" in printed
    assert "tokens, " in printed
    assert len(pictures) == 2
    assert (tmp_path / "runs" / "first-hour-4" / "gate.json").is_file()


def test_the_notebook_is_kept_without_outputs() -> None:
    book = nbformat.read(NOTEBOOK, 4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
