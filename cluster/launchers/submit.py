"""Hand a launcher's file to its scheduler: `sbatch`, `kubectl` or `ray up`."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bridge_common.errors import UserError
from cluster.launchers import kuberay, ray_up, slurm
from cluster.launchers.launch import Launch

RENDERERS: dict[str, Callable[[Launch], str]] = {
    "slurm": slurm.render,
    "kuberay": kuberay.render,
    "ray-up": ray_up.render,
}


def render(launcher: str, launch: Launch) -> str:
    """Return the file of a launcher.

    Raises:
        UserError: for an unknown launcher, or a site that lacks what the launcher needs.
    """
    if launcher not in RENDERERS:
        raise UserError(f"unknown launcher {launcher!r}: use {', '.join(RENDERERS)}")
    return RENDERERS[launcher](launch)


def submit(launcher: str, launch: Launch) -> str:
    """Submit a launch from the working directory, and return what the scheduler printed.

    Raises:
        UserError: if the scheduler's command is not installed here, or refuses.
    """
    text = render(launcher, launch)
    if launcher == "slurm":
        return _run(["sbatch"], text, {name: launch.variables[name] for name in launch.secrets})
    if launcher == "kuberay":
        return _run(["kubectl", "create", "-f", "-"], text)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cluster.yaml"
        file.write_text(text)
        started = _run(["ray", "up", "--yes", "--no-config-cache", str(file)])
        return started + _run(["ray", "exec", "--no-config-cache", str(file), ray_up.submit_command(launch)])


def _run(command: Sequence[str], text: str | None = None, variables: Mapping[str, str] | None = None) -> str:
    own = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"  # Ray's own is beside Python
    program = shutil.which(command[0], path=own) or command[0]
    try:
        done = subprocess.run(
            [program, *command[1:]],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **(variables or {})},
        )
    except FileNotFoundError as error:
        raise UserError(f"{command[0]} is not installed here: submit elsewhere the file that --out writes") from error
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"{' '.join(command[:2])} refused: {reason[-1]}")
    return done.stdout
