"""A Slurm batch script: Ray on the job's nodes, the phase, and the end of all that the script itself started.

`ray symmetric-run` and `ray stop` end every Ray on a node, also those of other jobs and people. So Ray runs in the
foreground of job steps, which are ended by their process ids.
"""

import re
import shlex
from importlib import resources

from cluster.launchers.launch import Launch

TEMPLATE = "slurm_job.sh"
NOTICE_S = 120  # before the time limit a phase gets a signal: its trials write checkpoints and end
PATIENCE_S = 95  # of these; then the phase is ended within 13 s, and the job is queued again


def render(launch: Launch) -> str:
    """Return the batch script."""
    site = launch.site
    on = f"{launch.gpus} GPUs each" if launch.gpus else "CPUs"
    values = {
        "title": f"{launch.phase} on {launch.nodes} node{'s' if launch.nodes > 1 else ''} with {on}",
        "directives": "\n".join(_directives(launch)),
        "project": shlex.quote(site.project) if site.project else '"$SLURM_SUBMIT_DIR"',
        "environment": "".join(f"{line}\n" for line in _environment(launch)),
        "auth_mode": site.auth_mode,
        "nodes": str(launch.nodes),
        "gpus": str(launch.gpus),
        "cpus": str(launch.cpus),
        "requeues": str(site.requeues),
        "patience": str(PATIENCE_S),
        "command": shlex.join(launch.command(site.storage)),
    }
    template = resources.files(__package__).joinpath(TEMPLATE).read_text()
    return re.sub(r"@(\w+)@", lambda match: values[match[1]], template)


def _directives(launch: Launch) -> list[str]:
    site = launch.site
    gpu = f"gpu:{site.gpu_type}" if site.gpu_type else "gpu"
    options = {
        "job-name": launch.name,
        "partition": site.partition,
        "account": site.account,
        "nodes": launch.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": launch.cpus,
        "mem": f"{launch.memory_gb}G",
        "gres": f"{gpu}:{launch.gpus}" if launch.gpus else None,
        "time": f"{site.hours:02d}:00:00",
        "signal": f"B:USR1@{NOTICE_S}",
        "output": "%x-%j.log",
        "open-mode": "append",
    }
    return [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None] + ["#SBATCH --requeue"]


def _environment(launch: Launch) -> list[str]:
    site, lines = launch.site, []
    if site.modules:
        lines += ["set +u # module scripts read unset variables", "module purge"]
        lines += [f"module load {shlex.join(site.modules)}", "set -u"]
    if site.environment:
        lines.append(f". {shlex.quote(site.environment + '/bin/activate')}")
    lines += [f"export {name}={shlex.quote(value)}" for name, value in launch.shown_variables.items()]
    # sbatch hands its environment on; Slurm shows a script to whoever may see the job, and so does its file.
    return lines + [f': "${{{name}:?set it where sbatch is called}}"; export {name}' for name in launch.secrets]
