"""The command line: what is wrong with a request is said in one line, at once, with exit code 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge_common.errors import UserError
from cluster.cli.app import app
from cluster.cli.options import parse_seeds, parse_settings
from tests.support.command_line import ROOT, call_here, is_one_error_line
from tests.support.model_pairs import make_pair

WRONG = [
    (["phase1", "--set", "soft_token=3"], "unknown field 'soft_token': did you mean soft_tokens"),
    (["phase1", "--set", "soft_tokens=many"], "soft_tokens='many'"),
    (["phase1", "--set", "depth=0"], "depth"),
    (["phase1", "--set", "depth"], "give field=value"),
    (["phase1", "--preset", "huge"], "unknown preset 'huge': use tiny or paper"),
    (["phase1", "--preset", "paper"], "4 workers need 4 GPUs on one node; this machine has 0"),
    (["phase1", "--source", "/no/where"], "no checkpoint at /no/where"),
    (["phase1", "--task", "gsm8k", "--data", "/no/where"], "no train.jsonl in /no/where"),
    (["phase1", "--seeds", "a"], "--seeds a"),
    (["phase1", "--seeds", "1,1"], "different whole numbers"),
    (["phase1", "--gate", "sure"], "use plain or confident"),
    (["phase1", "--gate-passes", "0.5"], "attribute <= passes"),
    (["phase1", "--set", "workers=3"], "does not divide among 3 workers"),
    (["phase1", "--name", "a/b"], "plain folder name"),
    (["ablate", "--toggle", "kk"], "unknown toggle 'kk'"),
    (["ablate", "--design", "all"], "unknown design 'all'"),
    (["ablate", "--campaign", "nothing:here"], "give MODULE:FUNCTION"),
    (["phase1", "--task", "sums"], "task='sums': there are synthetic, gsm8k, math, hotpotqa, arc_challenge"),
    (["phase1", "--task", "nothing:Here"], "plug-in nothing cannot be imported on "),
    (["phase1", "--set", "bridge=json:JSONDecoder"], "the class lacks from_spec, forward, moments, fit"),
    (["phase1", "--set", "extra.rank=4"], "unknown field 'extra.rank': task synthetic and bridge dit_xattn have no"),
    (["ablate", "--plugin", "nothing"], "start in the folder that holds it, send that folder with"),
    (["phase1", "--data", "/no/where"], "task_data has no meaning for the synthetic task"),
    (["plan", "phase9"], "unknown phase 'phase9'"),
    (["resume"], "no campaign in"),
    (["status", "--name", "x"], "no campaign 'x'"),
    (["phase1", "--tracking-uri", "http://127.0.0.1:9"], "no MLflow server at http://127.0.0.1:9"),
]


@pytest.mark.parametrize(("arguments", "line"), WRONG, ids=[" ".join(a) for a, _ in WRONG])
def test_mistakes_are_one_line_and_exit_2(tmp_path: Path, arguments: list[str], line: str) -> None:
    done = call_here(*arguments, "--storage", str(tmp_path))
    assert is_one_error_line(done), done.stderr
    assert line in done.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["phase1", "--soft-tokens", "3"], "No such option '--soft-tokens'"),
        (["phase1", "--gate-passes", "much"], "'much' is not a valid float"),
        (["phase1", "more"], "unexpected extra argument (more)"),
        (["phase9"], "No such command 'phase9'"),
        (["plan"], "Missing argument"),
        (["submit", "phase1", "--soft-tokens", "3"], "No such option '--soft-tokens'"),
        (["submit", "phase1", "--set", "soft_token=3"], "did you mean soft_tokens"),
        (["submit", "phase9"], "unknown phase 'phase9'"),
        (["jobs", "stop"], "give --all"),
    ],
)
def test_what_click_refuses_is_one_line_too(arguments: list[str], line: str) -> None:
    done = call_here(*arguments)
    assert is_one_error_line(done), done.stderr
    assert line in done.stderr


LOADED = """
import json, resource, runpy, sys
try:
    runpy.run_module("cluster", run_name="__main__")
except SystemExit:
    pass
usage = resource.getrusage(resource.RUSAGE_SELF)
print("\\n" + json.dumps([sorted(sys.modules), usage.ru_utime + usage.ru_stime]))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["phase1", "--help"], ["phase1", "--set", "nothing=1"]])
def test_help_and_mistakes_load_nothing_heavy_and_take_less_than_a_second_of_cpu(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, cwd=ROOT, check=True
    )
    modules, cpu_seconds = json.loads(done.stdout.splitlines()[-1])
    heavy = {"torch", "ray", "mlflow", "transformers", "scipy", "pandas", "numpy"}
    assert not heavy & set(modules)
    assert "cluster.cli.app" in modules
    assert cpu_seconds < 1


def test_the_list_of_commands_cuts_no_sentence() -> None:
    lines = call_here("--help", COLUMNS="80").stdout.splitlines()[1:]
    assert [line for line in lines if line.endswith("...") or len(line) > 80] == []
    assert sum(line.startswith("  ") and line.split()[0] in app.commands for line in lines if line.split()) >= 25


def test_plan_prints_and_freezes(tmp_path: Path) -> None:
    done = call_here("plan", "phase1", "--storage", str(tmp_path), "--gate", "confident")
    assert done.returncode == 0, done.stderr
    for part in ("if 65% to below 70%: B (seed 0), C (seed 0)", "while the gate is uncertain", "80 % power"):
        assert part in done.stdout
    assert (tmp_path / "phase1-tiny" / "plan.json").is_file()


def test_plan_shows_context_and_memory_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    pair = make_pair(tmp_path / "pair")
    options = ["--storage", str(tmp_path), "--source", pair.source, "--target", pair.target]
    short = ["--set", "train_examples=20", "--set", "test_examples=4", "--set", "validation_examples=4"]
    done = call_here("plan", "phase1", *options, *short)
    assert done.returncode == 0, done.stderr
    assert "context: full-seed" in done.stdout or "context: " in done.stdout
    assert "of 2,048 and 2,048 (the longest of" in done.stdout
    assert "memory: " in done.stdout
    config = Path(pair.target) / "config.json"
    config.write_text(config.read_text().replace('"max_position_embeddings": 2048', '"max_position_embeddings": 32'))
    done = call_here("plan", "phase1", *options, *short, "--name", "short")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "reads 32 positions at most" in done.stderr
    assert "lower num_fewshot" in done.stderr
    assert not (tmp_path / "short" / "plan.json").exists()
    on_gpus = ["--set", "use_gpu=true", "--set", "max_new_tokens=2", "--set", "soft_tokens=1", "--skip-preflight"]
    done = call_here("plan", "phase1", *options, *short, *on_gpus, "--name", "gpus")
    assert done.returncode == 0, done.stderr
    assert "on each GPU, assumed: --gpu-memory GB says what they have" in done.stdout
    done = call_here("plan", "phase1", *options, *short, *on_gpus[:-1], "--gpu-memory", "0.1", "--name", "small")
    assert done.returncode == 2
    assert "of 0 GB on each GPU" in done.stderr


def test_seeds() -> None:
    assert parse_seeds("0,1,7") == (0, 1, 7)
    with pytest.raises(UserError):
        parse_seeds("0-3")


def test_settings() -> None:
    assert parse_settings(("a=1", "b = x=y", "c=none")) == {"a": "1", "b": "x=y", "c": None}


def test_what_was_printed_before_an_error_stands_before_it_in_a_file(tmp_path: Path) -> None:
    code = """
import sys
from cluster.cli.checks import prepare_output
prepare_output()
print("warning: first")
print("error: last", file=sys.stderr)
"""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-c", code]
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=buffered, check=True)
    assert (tmp_path / "log").read_text() == "warning: first\nerror: last\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_onto_a_full_disk_is_one_line(unbuffered: str) -> None:
    around = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "cluster", "toggles"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=around, check=False
        )
    assert done.stderr == "error: the disk of the output: No space left on device\n"
    assert done.returncode == 2
