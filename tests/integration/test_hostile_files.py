"""Files in a storage that would run code if anything unpickled them: no command and no resume does."""

import io
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import call_here, is_one_error_line
from tests.support.mlflow_store import copy_database

pytestmark = pytest.mark.slow
MINIATURE = {
    "steps": 4,
    "warmup_steps": 0,
    "checkpoint_every": 2,
    "eval_every": 2,
    "train_examples": 8,
    "batch_size": 4,
}
MINIATURE |= {"validation_examples": 2, "test_examples": 2, "workers": 1, "max_new_tokens": 4, "max_failures": 0}
GATE = ("--gate-attribute", "0", "--gate-passes", "0")  # so that the first trial is the only one
RAYS = (
    "error.pkl",
    "error.pickle",
    "trainer.pkl",
    "tuner.pkl",
    "tune.pkl",
    "trial.pkl",
    "searcher.pkl",
    ".tune_metadata",
)
RAYS += (
    "search_gen_state.pkl",
    "experiment_state-9999-01-01_00-00-00.json.pkl",
    "dict_checkpoint.pkl",
    "trainable.pkl",
)
"""Names under which Ray Tune and Ray Train write or read pickles."""


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.makedirs, (str(self.marker), 0o777, True)


def planted(marker: Path) -> tuple[bytes, bytes]:
    """Return a pickle that makes the marker, and a file as of `torch.save` that holds it."""
    content, archive = pickle.dumps(Runs(marker)), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, part in {"data.pkl": content, "version": b"3\n", "byteorder": b"little"}.items():
            file.writestr(f"archive/{name}", part)
    return content, archive.getvalue()


def is_data(path: Path) -> bool:
    """Return whether a file is neither text nor a database, so that it is loaded by something else than a parser."""
    head = path.read_bytes()[:4096]
    return not head.startswith(b"SQLite") and (b"\0" in head or not head.isascii())


def plant(folder: Path, marker: Path) -> set[str]:
    """Replace what is no text below a folder, put Ray's pickles into each folder, and return the names replaced."""
    content, archive = planted(marker)
    replaced = set()
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.suffix in (".pkl", ".pickle") or is_data(path):
            path.write_bytes(archive if zipfile.is_zipfile(path) else content)
            replaced.add(path.name)
        elif path.name.startswith("experiment_state") and "80059" in (text := path.read_text()):
            path.write_text(re.sub("80059[0-9a-f]{20,}", content.hex(), text))  # Tune's pickles within its JSON
            replaced.add(path.name)
    for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in RAYS:
            (inner / name).write_bytes(content)
    return replaced


def test_what_is_planted_would_run(tmp_path: Path) -> None:
    import torch

    content, archive = planted(tmp_path / "marker")
    pickle.loads(content)
    (tmp_path / "marker").rmdir()
    torch.load(io.BytesIO(archive), weights_only=False)
    assert (tmp_path / "marker").is_dir()


def test_no_command_and_no_resume_runs_what_is_planted_in_a_storage(
    tmp_path: Path, mlflow_database: Path, ray_head: Any
) -> None:
    storage, bundle, marker = tmp_path / "runs", tmp_path / "bundle", tmp_path / "marker"
    storage.mkdir()
    copy_database(mlflow_database, storage)
    own = ("--storage", str(storage))
    settings = [f"--set={name}={value}" for name, value in MINIATURE.items()]
    run = {"RAY_ADDRESS": ray_head.address, "ABLATE_REPORTS": str(tmp_path / "reports")}
    first = call_here("phase1", *own, *settings, "--skip-preflight", *GATE, **run)
    assert first.returncode == 0, first.stdout + first.stderr
    (trial,) = (storage / "phase1-tiny" / "trials").iterdir()
    assert call_here("export", str(trial), str(bundle), "--bundle").returncode == 0

    replaced = plant(storage, marker) | plant(bundle, marker)
    kinds = {re.split("[-_]", name)[0] for name in replaced}
    assert {"state.pt", "translator.safetensors", "params.pkl", "experiment", "searcher"} <= kinds, (
        "Tune's and the job's"
    )
    assert {"embedding", "source", "teacher"} <= kinds, "caches"
    named = [["translate", str(place), "What is 1 + 1?"] for place in (trial, bundle)] + [["diagnose", str(trial)]]
    named += [["verify", str(place), "--items", "1"] for place in (trial, bundle)]
    for command in (*named, *([name, *own] for name in ("status", "results", "card", "appendix", "report"))):
        done = call_here(*command, ABLATE_REPORTS=run["ABLATE_REPORTS"])
        assert not marker.exists(), command
        assert done.returncode in (0, 1) or is_one_error_line(done), done.stderr

    (trial / "result.json").unlink()  # an unfinished trial, which goes on from its checkpoint
    again = call_here("resume", *own, "--skip-preflight", **run)
    assert not marker.exists()
    assert again.returncode == 0, again.stdout + again.stderr
    assert (trial / "result.json").is_file()
