"""Time what reads and sends a large campaign: dataframe, report, curves, appendix, and MLflow with SQLite.

    python -m benchmarks.record_speed [--trials 200] [--steps 2000] [--items 200] [--send 5] [--sweep]

Makes the folder of a campaign with synthetic trials (eleven values a step) in a temporary folder and prints one JSON
object, which it saves: the seconds of each part, and the metric values a second that reach SQLite. The trials are seeds
of one variant with the same answers; with `--sweep` each is a variant with different answers, so that there are pairs
to compare and changed items to list.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import save
from bridge_common import files
from mlflow_utils import dataframes
from mlflow_utils.reports import markdown
from mlflow_utils.tracker import Tracker
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support.campaign_folder import begin_trial, make_campaign, make_trial, samples
from tune_spaces.appendix.from_campaign import campaign_appendix
from tune_spaces.design.phases import Phase
from tune_spaces.design.variants import full
from tune_spaces.records.plan_file import phase_record


def timed(action: Callable[[], Any]) -> float:
    """Return the wall time of an action in seconds."""
    begin = time.perf_counter()
    action()
    return round(time.perf_counter() - begin, 4)


def campaign(storage: Path, trials: int, steps: int, items: int, sweep: bool = False) -> Path:
    """Write a campaign of equal trials under several seeds, or of variants whose answers differ; return its folder."""
    folder = make_campaign(storage, "large", variants=[])
    phase = Phase(name="phase1", goal="speed", first=(full(),))  # as a campaign records it: the appendix reads it
    files.write_json(folder / "campaign.json", {"phase": phase_record(phase), "preset": "tiny", "settings": {}})
    first = make_trial(folder, "full", steps=steps, n=items)
    for number in range(1, trials):
        changed: dict[str, Any] = {"lr": number / 1e6} if sweep else {"seed": number}
        other = begin_trial(folder, f"lr{number}" if sweep else "full", **changed)
        for name in ("events.jsonl", "samples.jsonl", "metrics.json", "result.json"):
            shutil.copy(first / name, other / name)
        if sweep:
            files.write_jsonl(other / "samples.jsonl", samples(items, number))
    return folder


def main() -> None:
    """Measure, print and save the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--items", type=int, default=200, help="test items a trial")
    parser.add_argument("--send", type=int, default=5, help="trials sent to MLflow")
    parser.add_argument("--sweep", action="store_true", help="variants with different answers, not seeds of one")
    options = parser.parse_args()
    row: dict[str, Any] = {name: getattr(options, name) for name in ("trials", "steps", "items", "sweep")}
    with tempfile.TemporaryDirectory() as name:
        storage = Path(name)
        folder = campaign(storage, options.trials, options.steps, options.items, options.sweep)
        row["frame"] = timed(lambda: dataframes.from_folder(folder))
        row["report"] = timed(lambda: markdown.update(folder, storage / "paper"))
        row["report_again"] = timed(lambda: markdown.update(folder, storage / "paper"))
        row["history"] = timed(lambda: dataframes.history(folder))
        row["appendix"] = timed(lambda: campaign_appendix(folder))
        few = campaign(storage / "few", options.send, options.steps, options.items)
        sent = timed(lambda: Tracker.replay(default_tracking_uri(few.parent), "large", few, timeout=600))
        points = sum(
            len(row["values"])
            for path in few.glob("trials/*/events.jsonl")
            for row in files.read_log(path)
            if row["kind"] == "metrics"
        )
    row[f"{options.send} trials sent"] = sent
    result = {"seconds": [row], "mlflow_sqlite_points_per_second": round(points / sent)}
    print(json.dumps(result))
    save("record", result)


if __name__ == "__main__":
    main()
