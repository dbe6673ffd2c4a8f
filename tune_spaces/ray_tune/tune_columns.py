"""What Ray Tune itself recorded about a campaign's trials, for the table of results."""

import logging
from pathlib import Path
from typing import Any

from bridge_common import files
from bridge_common.errors import UserError

logger = logging.getLogger(__name__)


def tune_columns(experiments: Path) -> dict[str, dict[str, Any]]:
    """Read Tune's columns (`config/...`, `trial_id`, `time_total_s` and so on) of each trial.

    They come from the JSON files that Tune's logger writes in each trial's folder. Tune's saved experiment state is a
    pickle that names classes of this package, so a campaign could not be read any more after a class has moved.

    Args:
        experiments: folder that holds one experiment per start of the campaign; an interrupted trial is in several.

    Returns:
        Tune's row of each trial by the trial's name: the one with the final result, or else the latest.
    """
    rows: dict[str, dict[str, Any]] = {}
    for parameters in sorted(experiments.glob("*/*/params.json")):
        try:
            config = files.read_json(parameters)
        except UserError as error:  # a full disk cut it off; the trial's own folder has its results
            logger.warning("Tune's columns of one start are missing: %s", error)
            continue
        results = files.read_log(parameters.with_name("result.json"))
        last = {key: value for key, value in results[-1].items() if key != "config"} if results else {}
        row = {**last, **{f"config/{key}": value for key, value in config.items()}}
        name = str(config["name"])
        if row.get("final") is True or rows.get(name, {}).get("final") is not True:
            rows[name] = row
    return rows
