"""The Slurm script as text: what it asks Slurm for, and that it is sound bash."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cluster.launchers.site import PROFILES
from cluster.launchers.slurm import render
from tests.support.launches import paper_launch

AWKWARD = {
    "variables": {"NOTE": 'it\'s $HOME; "x"'},
    "site": {"project": "/data/my project", "environment": None},
}


def directives(script: str) -> dict[str, str]:
    """Return the #SBATCH lines that Slurm reads: those before the first command."""
    options = {}
    for line in script.splitlines():
        if line and not line.startswith("#"):
            break
        if match := re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line):
            options[match[1]] = match[2]
    return options


def test_the_script_asks_for_nodes_with_four_gpus_each() -> None:
    script = render(paper_launch(nodes=3, profile="hpc", site={"partition": "gpu", "hours": 12}))
    asked = directives(script)
    assert len(asked) == script.count("#SBATCH"), "Slurm ignores directives after the first command"
    assert (asked["nodes"], asked["ntasks-per-node"], asked["cpus-per-task"], asked["mem"]) == ("3", "1", "32", "256G")
    assert (asked["gres"], asked["time"], asked["partition"]) == ("gpu:h100:4", "12:00:00", "gpu")
    assert asked["signal"] == "B:USR1@120", "the batch shell gets it before the limit"
    assert "account" not in asked
    assert f"module load {' '.join(PROFILES['hpc']['modules'])}\n" in script
    assert "export RAY_AUTH_MODE=token\n" in script
    assert "python -m cluster phase1 --preset paper --storage runs &" in script


def test_without_a_profile_there_are_no_modules_and_any_gpu_will_do() -> None:
    script = render(paper_launch())
    assert "module" not in script
    assert directives(script)["gres"] == "gpu:4"


def test_no_ray_but_its_own_is_ended() -> None:
    commands = [line for line in render(paper_launch(nodes=2)).splitlines() if not line.lstrip().startswith("#")]
    assert not any(word in line for line in commands for word in ("ray stop", "symmetric-run", "pkill", "killall"))


@pytest.mark.parametrize("changes", [{}, {"nodes": 4, "profile": "hpc"}, AWKWARD, {"variables": {"HF_TOKEN": "x"}}])
def test_the_script_is_sound_bash(tmp_path: Path, changes: dict[str, Any]) -> None:
    script = render(paper_launch("--preset", "paper", "--set", "task=a b", **changes))
    assert "--set 'task=a b'" in script
    assert not re.search(r"@\w+@", script), "every placeholder has its value"
    path = tmp_path / "job.sh"
    path.write_text(script)
    subprocess.run(["bash", "-n", str(path)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--severity=warning", "--exclude=SC1091", str(path)], check=True)
