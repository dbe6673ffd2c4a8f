"""Plug-ins from the command line to the appendix: real models, Ray Tune and Train, MLflow, and what comes after."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from bridge_common import files
from bridge_common.errors import UserError
from tests.support.plugin_modules import EXAMPLE, importable
from tests.support.ray_clusters import ROOT, ray_environment

pytestmark = pytest.mark.slow
SMALL = {
    "workers": 1,  # two trials at once
    "steps": 2,
    "batch_size": 4,
    "train_examples": 64,
    "validation_examples": 4,
    "test_examples": 12,
    "max_new_tokens": 12,
    "eval_every": 2,
    "decode_questions": 2,
    "decode_samples": 2,
    "extra.largest": 9,
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """The folder from which commands are started, with `my_plugin.py` in it and the packages elsewhere."""
    with ray_environment():
        folder = tmp_path / "place"
        folder.mkdir()
        (folder / "my_plugin.py").write_text(EXAMPLE)
        yield folder


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run `python -m cluster` in a folder; returns the exit code and all that it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cluster", *arguments],
        cwd=folder,
        env={**{key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=560)
        return process.returncode, printed
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


ONE_AFTER_ANOTHER = """
import json, sys
from cluster.cli.app import main
for arguments in json.loads(sys.argv[1]):
    sys.modules.pop("my_plugin", None)
    sys.argv = ["ablate", *arguments]
    assert main() == 0, arguments
    assert "my_plugin" in sys.modules, arguments
"""


def run_one_after_another(folder: Path, *commands: list[str]) -> None:
    """Run commands in one process, whose imports take longest, each as if none had imported the plug-in before."""
    process = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(commands)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr


def test_a_task_a_bridge_and_a_toggle_of_ones_own(place: Path) -> None:
    settings = [f"--set={name}={value}" for name, value in SMALL.items()]
    own = ["--plugin=my_plugin", "--task=my_plugin:Sums", "--set=bridge=my_plugin:LowRank", "--toggle=rank"]
    code, log = run(place, "ablate", *own, *settings, "--reports=paper_writing", "--verbose")
    assert code == 0, log
    campaign = place / "runs" / "ablate-tiny"
    trials = {path.name.rpartition("-")[0]: path for path in (campaign / "trials").iterdir()}
    assert set(trials) == {"full", "no-rank"}
    records = {name: files.read_json(path / "spec.json")["spec"] for name, path in trials.items()}
    assert {name: record["extra.rank"] for name, record in records.items()} == {"full": 8, "no-rank": 64}
    assert records["full"]["plugins"] == ["my_plugin"]

    # what ran was the plug-in's: its task's questions, its bridge's weights
    questions = [row["question"] for row in files.read_jsonl(trials["full"] / "samples.jsonl")]
    assert len(questions) == 12
    assert all(question.startswith("What is ") for question in questions)
    from safetensors.torch import load_file

    weights = {name: load_file(next(path.glob("selected/*.safetensors"))) for name, path in trials.items()}
    assert {name: len(found["bridge.head.0.weight"]) for name, found in weights.items()} == {"full": 8, "no-rank": 64}

    # the toggle is in MLflow's parameters, the reports, the table of results with Tune's own columns, the appendix
    with sqlite3.connect(place / "runs" / "mlflow.db") as database:
        query = "select value from params where key = 'toggle.rank' order by value"
        assert [value for (value,) in database.execute(query)] == ["off", "on"]
        assert list(database.execute("select value from params where key = 'task'")) == [("my_plugin:Sums",)]
    assert "| toggle.rank |" in (place / "paper_writing" / "EXPERIMENTS_SUMMARY.md").read_text()
    effects = pd.read_parquet(campaign / "appendix" / "effects.parquet")
    estimated = effects[effects["status"] == "estimated"]
    assert set(estimated["toggles"]) == {"extra.rank"}
    assert "extra.rank" in log, "the summary names the effect"

    # commands that read the campaign import the plug-in again, if it was not imported yet
    shutil.rmtree(campaign / "appendix")
    run_one_after_another(
        place, ["results"], ["status"], ["report"], ["appendix"], ["diagnose", str(trials["full"]), "--count=1"]
    )
    table = pd.read_csv(campaign / "results.csv").set_index("variant")
    assert table["rank"].to_dict() == {"full": "on", "no-rank": "off"}
    assert table["config/extra.rank"].to_dict() == {"full": 8, "no-rank": 64}
    again = pd.read_parquet(campaign / "appendix" / "effects.parquet")
    assert set(again[again["status"] == "estimated"]["toggles"]) == {"extra.rank"}

    # what is missing is run again with the plug-in
    shutil.rmtree(trials["no-rank"])
    code, log = run(place, "resume")
    assert code == 0, log
    assert (trials["no-rank"] / "result.json").is_file()

    # from elsewhere, and after an edit, one line says what is wrong
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    code, log = run(elsewhere, "resume", "--storage", str(place / "runs"))
    assert code == 2
    assert "plug-in my_plugin cannot be imported on " in log
    assert len(log.strip().splitlines()) == 1
    (place / "my_plugin.py").write_text(EXAMPLE + "\n# edited\n")
    code, log = run(place, "resume")
    assert code == 2
    assert "planned differently (2 of its 2 trials would measure something else now)" in log


def test_a_worker_without_the_plug_in_or_with_another_version_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver finds modules that were put on its path after Ray had started, and its workers do not."""
    import ray

    from ray_bridge import fingerprint, run_job, tiny, tiny_run

    theirs, ours = place / "theirs", place / "ours"
    theirs.mkdir()
    ours.mkdir()
    (theirs / "two_versions.py").write_text("VERSION = 1\n")
    (ours / "two_versions.py").write_text("VERSION = 2\n")
    (ours / "only_here.py").write_text("VERSION = 2\n")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{theirs}")
    run_settings = tiny_run(workers=1, max_failures=0)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with importable(ours):
            with pytest.raises(UserError, match=r"plug-in only_here cannot be imported on .*: start in the folder"):
                run_job(tiny(plugins=("only_here",), **{"batch_size": 4}), run_settings, place / "a" / "trials" / "one")
            spec = tiny(plugins=("two_versions",), **{"batch_size": 4})
            folder = place / "a" / "trials" / "two"
            files.write_json(folder / "spec.json", {"spec": spec.model_dump(), "fingerprint": fingerprint(spec)})
            with pytest.raises(UserError, match="has another version of a plug-in than two was planned with"):
                run_job(spec, run_settings, folder)
    finally:
        ray.shutdown()


LONG = """
from ray_bridge.tasks.synthetic.task import SyntheticTask


class Long(SyntheticTask):
    def prompt(self, example):
        return {opening!r} + super().prompt(example)
"""


def test_resident_workers_do_not_run_an_edited_plug_in_as_they_have_imported_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from ray_bridge import end_resident_workers, fingerprint, run_job, tiny, tiny_run

    modules = place / "modules"
    modules.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{modules}")
    sizes = {"train_examples": 8, "validation_examples": 2, "test_examples": 2, "depth": 1, "num_heads": 2}
    changes = {"steps": 1, "eval_every": 1, "warmup_steps": 0, "batch_size": 2, "hidden_size": 16, "max_new_tokens": 4}
    lengths, names = [], []
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with importable(modules):
            for opening in ("Short. ", "Many more words than before. "):
                (modules / "long_prompts.py").write_text(LONG.format(opening=opening))
                spec = tiny(task="long_prompts:Long", **changes, **sizes, decode_aware=False)
                folder = place / "a" / "trials" / str(len(names))
                result = run_job(spec, tiny_run(workers=1, resident=True), folder)
                lengths.append(result["metrics"]["prompt_tokens"])
                names.append(fingerprint(spec))
            end_resident_workers()
    finally:
        ray.shutdown()
    assert names[0] != names[1]
    assert lengths[0] < lengths[1]
