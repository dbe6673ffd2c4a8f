"""A Slurm batch script: Ray and the run on one node, and of Ray only what the script itself started.

`ray symmetric-run` and `ray stop` end every Ray on the node, also those of other jobs and people; so Ray runs in the
foreground of a job step and is ended by that step's process id.
"""

import re
import shlex

from cluster.launchers.settings import LaunchSettings

_SCRIPT = r"""#!/usr/bin/env bash
# @phase@ on @gpus@ x @gpu_kind@ of one node. Submit with: sbatch FILE
# The same script may be submitted again: the run goes on where it stopped.
@directives@
set -euo pipefail
cd @project@
@surroundings@
# One token for this job alone, so that nobody else on the node can use its Ray.
export RAY_AUTH_MODE=@auth_mode@
if [[ $RAY_AUTH_MODE == token ]]; then
    RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
    export RAY_AUTH_TOKEN
fi
export RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1

# Ports of this job: other jobs on the node have theirs. All below 32768 and outside 10002 to 19999, Ray's workers'.
port=$((20000 + SLURM_JOB_ID % 1500 * 8))
temporary=$(mktemp -d "/tmp/ray-$SLURM_JOB_ID-XXXX") # short: a socket's path has at most 107 characters
ray_pid=""
phase_pid=""

end() { # end a process that this script started, by its id
    local pid=$1
    kill -TERM "$pid" 2>/dev/null || return 0
    for _ in $(seq 60); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.5
    done
    kill -KILL "$pid" 2>/dev/null || true
}
finish() {
    trap '' TERM INT
    [[ -z $phase_pid ]] || end "$phase_pid"
    [[ -z $ray_pid ]] || end "$ray_pid"
    rm -rf "$temporary"
}
trap finish EXIT
# Slurm sends TERM before the time limit; the phase then ends by itself and is waited for below.
trap 'if [[ -n $phase_pid ]]; then kill -TERM "$phase_pid" 2>/dev/null || true; else exit 143; fi' TERM INT

srun --nodes=1 --ntasks=1 --overlap --cpus-per-task="${SLURM_CPUS_PER_TASK:-@cpus@}" \
    ray start --head --block --port="$port" \
    --num-gpus=@gpus@ --num-cpus="${SLURM_CPUS_PER_TASK:-@cpus@}" --temp-dir="$temporary" \
    --dashboard-host=127.0.0.1 --dashboard-port=$((port + 1)) --dashboard-agent-listen-port=$((port + 2)) \
    --dashboard-agent-grpc-port=$((port + 3)) --runtime-env-agent-port=$((port + 4)) \
    --metrics-export-port=$((port + 5)) --ray-client-server-port=$((port + 6)) \
    --min-worker-port=0 --max-worker-port=0 &
ray_pid=$!

deadline=$((SECONDS + 180))
until timeout 20 ray health-check --address "127.0.0.1:$port" >/dev/null 2>&1; do
    if ! kill -0 "$ray_pid" 2>/dev/null; then
        echo "error: Ray ended while it started; its messages are above" >&2
        exit 1
    fi
    if ((SECONDS > deadline)); then
        echo "error: Ray did not answer at 127.0.0.1:$port within 180 s" >&2
        exit 1
    fi
    sleep 1
done

RAY_ADDRESS="127.0.0.1:$port" @command@ &
phase_pid=$!
code=0
wait "$phase_pid" || code=$?
while kill -0 "$phase_pid" 2>/dev/null; do # a signal cut the wait short
    code=0
    wait "$phase_pid" || code=$?
done
phase_pid=""
exit "$code"
"""


def render(settings: LaunchSettings) -> str:
    """The batch script."""
    values = {
        "phase": settings.phase,
        "gpus": str(settings.gpus),
        "gpu_kind": settings.gpu_kind,
        "cpus": str(settings.cpus),
        "directives": "\n".join(_directives(settings)),
        "project": shlex.quote(settings.project) if settings.project else '"$SLURM_SUBMIT_DIR"',
        "surroundings": "".join(f"{line}\n" for line in _surroundings(settings)),
        "auth_mode": settings.auth_mode,
        "command": shlex.join(settings.command()),
    }
    return re.sub(r"@(\w+)@", lambda match: values[match[1]], _SCRIPT)


def _directives(settings: LaunchSettings) -> list[str]:
    named = {
        "job-name": settings.name,
        "partition": settings.partition,
        "account": settings.account,
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": settings.cpus,
        "mem": f"{settings.memory_gb}G",
        "gres": f"gpu:{settings.gpu_kind}:{settings.gpus}",
        "time": f"{settings.hours:02d}:00:00",
        "signal": "B:TERM@120",
        "output": "%x-%j.log",
        "open-mode": "append",
    }
    return [f"#SBATCH --{name}={value}" for name, value in named.items() if value is not None] + ["#SBATCH --requeue"]


def _surroundings(settings: LaunchSettings) -> list[str]:
    lines = []
    if settings.modules:
        lines += ["set +u # module scripts read unset variables", "module purge"]
        lines += [f"module load {shlex.join(settings.modules)}", "set -u"]
    if settings.environment:
        lines.append(f". {shlex.quote(settings.environment + '/bin/activate')}")
    return lines + [f"export {name}={shlex.quote(value)}" for name, value in settings.variables.items()]
