"""An MLflow database with its tables, to be copied: making the tables takes seconds, copying the file does not."""

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
DATABASE = "mlflow.db"


def make_database(folder: Path) -> Path:
    """Let MLflow make its tables, without any experiment, in a new database of a folder; return the file."""
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    path = folder / DATABASE
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    _initialize_tables(engine)
    engine.dispose()
    return path


@cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    """Return a folder that goes with this process."""
    return tempfile.TemporaryDirectory(prefix="mlflow-")


@cache
def empty_database() -> Path:
    """Return a database to be copied, which is made at the first call."""
    return make_database(Path(_folder().name))


def copy_database(database: Path, storage: Path) -> Path:
    """Copy a database to where campaigns in a storage record by default, and return the storage."""
    shutil.copy(database, storage / DATABASE)
    return storage
