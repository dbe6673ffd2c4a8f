"""`launch` and what it hands to a scheduler, which is a stub on the path here."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import call_here, is_one_error_line

SCHEDULER = """#!/usr/bin/env bash
echo "$*" >"$0.arguments"
echo "${HF_TOKEN-}" >"$0.token"
cat >"$0.input"
echo "Submitted batch job 4711"
"""


def launch(*arguments: str, tools: Path | None = None) -> "subprocess.CompletedProcess[str]":
    path = f"{tools}:{os.environ['PATH']}" if tools else "/nowhere"  # so that no scheduler is installed
    return call_here("launch", *arguments, PATH=path)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    for name in ("sbatch", "kubectl"):
        (tmp_path / name).write_text(SCHEDULER)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_the_phases_options_are_passed_on() -> None:
    options = ["--preset", "paper", "--set", "steps=100", "--seeds", "0,1", "--gate", "confident", "--name", "mine"]
    printed = launch("slurm", "phase1", *options, "--nodes", "2", "--profile", "hpc", "--site", "partition=gpu")
    assert printed.returncode == 0, printed.stderr
    assert f"python -m cluster phase1 {' '.join(options)} --storage runs &" in printed.stdout
    for line in ("nodes=2", "partition=gpu", "gres=gpu:h100:4"):
        assert f"#SBATCH --{line}\n" in printed.stdout


def test_out_writes_what_print_shows(tmp_path: Path) -> None:
    options = ["kuberay", "phase3", "--preset", "paper", "--env", "NOTE=x"]
    file = tmp_path / "job.yaml"
    written = launch(*options, "--out", str(file))
    assert (written.returncode, written.stdout) == (0, f"{file}\n"), written.stderr
    assert file.read_text() == launch(*options, "--print").stdout


@pytest.mark.parametrize(
    "variable", ["ABLATE_NOTIFY=https://hooks/SECRET", "HF_TOKEN=SECRET", "ABLATE_NOTIFY", "MY_URI"]
)
@pytest.mark.parametrize(
    ("launcher", "instead"),
    [
        ("kuberay", 'kubectl create secret generic ablate-env --namespace default --from-literal={name}="${name}"\n'),
        ("slurm", ': "${{{name}:?set it where sbatch is called}}"; export {name}\n'),
    ],
)
def test_no_file_holds_a_secret(launcher: str, instead: str, variable: str) -> None:
    known = {"ABLATE_NOTIFY": "http://SECRET", "MY_URI": "http://me:SECRET@host"}
    done = call_here("launch", launcher, "phase1", "--env", "NOTE=x", "--env", variable, PATH="/nowhere", **known)
    assert done.returncode == 0, done.stderr
    assert "SECRET" not in done.stdout + done.stderr
    assert instead.format(name=variable.partition("=")[0]) in done.stdout


def test_sbatch_gets_the_secret_in_its_environment(tools: Path) -> None:
    submitted = launch("slurm", "phase1", "--env", "HF_TOKEN=planted", "--submit", tools=tools)
    assert submitted.returncode == 0, submitted.stderr
    assert (tools / "sbatch.token").read_text() == "planted\n"


def test_a_submission_names_the_secret_that_its_pods_need(tools: Path) -> None:
    submitted = launch("kuberay", "phase1", "--env", "HF_TOKEN=x", "--submit", tools=tools)
    assert submitted.returncode == 0, submitted.stderr
    assert "# kubectl create secret generic ablate-env --namespace default" in submitted.stderr


@pytest.mark.parametrize(
    ("launcher", "command", "arguments"), [("slurm", "sbatch", ""), ("kuberay", "kubectl", "create -f -")]
)
def test_submit_hands_the_file_to_the_scheduler(tools: Path, launcher: str, command: str, arguments: str) -> None:
    submitted = launch(launcher, "phase1", "--submit", tools=tools)
    assert (submitted.returncode, submitted.stdout) == (0, "Submitted batch job 4711\n"), submitted.stderr
    assert (tools / f"{command}.arguments").read_text().strip() == arguments
    assert (tools / f"{command}.input").read_text() == launch(launcher, "phase1").stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lsf", "phase1"], "unknown launcher 'lsf'"),
        (["slurm", "phase9"], "unknown phase 'phase9'"),
        (["slurm", "phase1", "--soft-tokens", "3"], "No such option '--soft-tokens'"),
        (["slurm", "phase1", "--set", "soft_token=3"], "did you mean soft_tokens"),
        (["slurm", "phase1", "--site", "hour=3"], "did you mean hours"),
        (["slurm", "phase1", "--nodes", "0"], "0 is not in the range"),
        (["slurm", "phase1", "--preset", "paper", "--gpus", "2"], "--set workers=2"),
        (["slurm", "phase1", "--submit"], "sbatch is not installed here"),
        (["ray-up", "phase1"], "name as many hosts"),
        (["slurm", "phase1", "--out", "/nowhere/job.sh"], "--out /nowhere/job.sh: No such file or directory"),
        (["slurm", "phase1", "--env", "B C=2"], "--env B C: a variable's name has"),
        (["slurm", "phase1", "--preset", "paper", "--gpus", "0"], "leave --gpus out"),
        (["ray-up", "phase1", "--site", "hosts=a", "--env", "ABLATE_NOTIFY=http://x"], "--env ABLATE_NOTIFY: the file"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], line: str) -> None:
    done = launch(*arguments)
    assert is_one_error_line(done), done.stderr
    assert line in done.stderr


def test_a_scheduler_that_refuses_is_quoted(tools: Path) -> None:
    refusal = "sbatch: error: invalid partition specified: gpu"
    (tools / "sbatch").write_text(f"#!/usr/bin/env bash\necho '{refusal}' >&2\nexit 1\n")
    done = launch("slurm", "phase1", "--submit", tools=tools)
    assert done.returncode == 2
    assert done.stderr == f"error: sbatch refused: {refusal}\n"
