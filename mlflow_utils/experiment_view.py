"""What MLflow's pages show when a campaign's experiment is opened: columns, order and charts of the runs table.

The web client reads a view from the tag `mlflow.sharedViewState.KEY` of the experiment if the address of its page names
KEY (seen in the client of MLflow 3.17).
"""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bridge_common import metric_names
from mlflow_utils import names

if TYPE_CHECKING:
    from mlflow_utils.declarations import Trial

KEY = "campaign"
TRAINING = "workflowType=machine_learning"  # part of an address; without it the client opens its pages for GenAI
VIEW = f"mlflow.sharedViewState.{KEY}"
BRIDGED = metric_names.accuracy("bridged")
METRICS = (
    BRIDGED,
    metric_names.accuracy_low("bridged"),
    metric_names.accuracy_high("bridged"),
    metric_names.GAIN,
)
TOGGLE = "toggle."
RUN_NAME = "attributes.`Run Name`"
MOST_SETTINGS = 6  # columns of settings other than toggles


def runs_url(base: str, experiment: str, *, charts: bool = False) -> str:
    """Return the address of the page of an experiment's runs, which opens on the campaign's view.

    Args:
        base: address of the MLflow server.
        experiment: id of the experiment.
        charts: open the charts of the runs instead of their table.
    """
    mode = "&compareRunsMode=CHART" if charts else ""
    return f"{base.rstrip('/')}/#/experiments/{experiment}/runs?viewStateShareKey={KEY}&{TRAINING}{mode}"


def experiment_tags(trials: Iterable["Trial"]) -> dict[str, str]:
    """Return the tags of an experiment by which its pages open on these trials' toggles, seeds and accuracies."""
    return {VIEW: json.dumps(_view(_settings(trials))), names.PRIMARY_METRIC: BRIDGED}


def _settings(trials: Iterable["Trial"]) -> list[str]:
    """Return the parameters to show: the toggles, then those that differ between trials."""
    rows = [trial.params for trial in trials]
    toggles = list(dict.fromkeys(name for row in rows for name in row if name.startswith(TOGGLE)))
    others = [name for name in names.differing(rows) if name not in toggles]
    return [*toggles, *others[:MOST_SETTINGS]]


def _view(settings: list[str]) -> dict[str, Any]:
    columns = [("params", names.metric_name(name)) for name in settings]
    columns += [("tags", names.SEED), *(("metrics", names.mlflow_metric(name)) for name in METRICS)]
    widths = {_column(group, name): max(_width(name), 110 if group == "metrics" else 70) for group, name in columns}
    return {
        "searchFilter": "",
        "orderByKey": _column("metrics", BRIDGED),
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "runsHiddenMode": "FIRST_20_RUNS",
        "selectedColumns": list(widths),
        "columnOrder": [RUN_NAME, *widths],
        "columnWidths": {RUN_NAME: 190, **widths},
        **_charts([names.metric_name(name) for name in settings]),
    }


def _charts(settings: list[str]) -> dict[str, Any]:
    """Return the section that the charts open on: accuracies as bars, and settings beside accuracy as lines."""
    own = {"metricSectionId": KEY, "deleted": False, "isGenerated": False, "runsCountToCompare": 20}
    bar = {**own, "uuid": f"{KEY}-bar", "type": "BAR", "metricKey": BRIDGED, "displayName": BRIDGED}
    parallel = {
        **own,
        "uuid": f"{KEY}-parallel",
        "type": "PARALLEL",
        "displayName": "settings and accuracy",
        "selectedParams": settings,
        "selectedMetrics": [BRIDGED],
        "showAllRuns": True,
    }
    section = {"uuid": KEY, "name": "accuracy by settings", "display": True, "isReordered": False, "columns": 1}
    return {
        "isAccordionReordered": True,  # keeps the section before those of single metrics
        "compareRunCharts": [bar, parallel] if settings else [bar],
        "compareRunSections": [{**section, "deleted": False, "isGenerated": False}],
    }


def _width(name: str) -> int:
    """Return the width of a column, in pixels, in which its heading is not cut."""
    return 8 * len(name) + 30


def _column(group: str, name: str) -> str:
    return f"{group}.`{name}`"
