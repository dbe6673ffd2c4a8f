"""Record campaigns in MLflow and read them back: what is recorded, under which names, and how it reaches MLflow.

from mlflow_utils import Tracker, from_folder, from_mlflow

trials = from_folder("runs/phase1-tiny")                            # one row a trial, as a pandas DataFrame
trials = from_mlflow("http://127.0.0.1:5000", "phase1-tiny")        # the same table, from an MLflow server
"""

from typing import TYPE_CHECKING

from bridge_common.lazy import lazy_names
from bridge_common.version import VERSION

if TYPE_CHECKING:
    from mlflow_utils.dataframes import Run, from_folder, from_mlflow, history, runs
    from mlflow_utils.tracker import Tracker, Unsent
    from mlflow_utils.tracking_uri import default_tracking_uri

__version__ = VERSION
__all__ = ["Run", "Tracker", "Unsent", "default_tracking_uri", "from_folder", "from_mlflow", "history", "runs"]

_HOMES = {
    **dict.fromkeys(("Run", "from_folder", "from_mlflow", "history", "runs"), "mlflow_utils.dataframes"),
    **dict.fromkeys(("Tracker", "Unsent"), "mlflow_utils.tracker"),
    "default_tracking_uri": "mlflow_utils.tracking_uri",
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
