#!/usr/bin/env bash
# @title@. Submit with: sbatch FILE
# The same script may be submitted again: the run continues where it stopped.
@directives@
set -euo pipefail
cd @project@
@environment@
# A token for this job alone, so that nobody else on a node can use its Ray.
export RAY_AUTH_MODE=@auth_mode@
if [[ $RAY_AUTH_MODE == token ]]; then
    RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
    export RAY_AUTH_TOKEN
fi
export RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1

nodes=${SLURM_JOB_NUM_NODES:-@nodes@}
cpus=${SLURM_CPUS_PER_TASK:-@cpus@}
temporary=$(mktemp -d "/tmp/ray-$SLURM_JOB_ID-XXXX") # short: the path of a socket has at most 107 characters
head_pid=""
workers_pid=""
phase_pid=""
at_limit=""

running() { [[ -n $1 ]] && kill -0 "$1" 2>/dev/null; }

end() { # end processes that this script started, by their ids
    local pid
    for pid in "$@"; do
        ! running "$pid" || kill -TERM "$pid" 2>/dev/null || true
    done
    for pid in "$@"; do
        for _ in $(seq 60); do
            running "$pid" || break
            sleep 0.5
        done
        ! running "$pid" || kill -KILL "$pid" 2>/dev/null || true
    done
}

finish() {
    trap '' TERM INT USR1
    end "$phase_pid"
    end "$workers_pid" "$head_pid"
    rm -rf "$temporary"
}
trap finish EXIT

stop_phase() { # the phase ends by itself and is waited for below
    [[ -n $phase_pid ]] || exit 143
    kill -"$1" "$phase_pid" 2>/dev/null || true
}
trap 'stop_phase TERM' TERM INT

stop_at_limit() { # what runs writes a checkpoint first; a phase that takes too long for that is ended in time
    at_limit=yes
    stop_phase USR2
    (
        for _ in $(seq @patience@); do
            running "$phase_pid" || exit 0
            sleep 1
        done
        kill -TERM "$phase_pid" 2>/dev/null
    ) &
}
trap stop_at_limit USR1 # Slurm sends it before the time limit

# Every port of Ray is one that the kernel gives, so jobs on the same node cannot collide. Ray Client alone takes no 0.
ray_options=(
    --block --num-gpus=@gpus@ --num-cpus="$cpus" --dashboard-agent-listen-port=0
    --min-worker-port=0 --max-worker-port=0
)

start_head() {
    local client_port
    client_port=$(python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
    srun --relative=0 --nodes=1 --ntasks=1 --overlap --cpus-per-task="$cpus" \
        ray start --head --port=0 --dashboard-host=127.0.0.1 --dashboard-port=0 \
        --ray-client-server-port="$client_port" --temp-dir="$temporary" "${ray_options[@]}" &
    head_pid=$!
}

head_answers() { # Ray writes its address into this file when it has started
    address=$(cat "$temporary/ray_current_cluster" 2>/dev/null) &&
        timeout 20 ray health-check --address "$address" >/dev/null 2>&1
}

start_head
tries=1
deadline=$((SECONDS + 180))
until head_answers; do
    if ! running "$head_pid"; then
        if ((tries == 3)); then
            echo "error: Ray ended three times while it started; its messages are above" >&2
            exit 1
        fi
        tries=$((tries + 1)) # the port of Ray Client may have been taken meanwhile
        start_head
    fi
    if ((SECONDS > deadline)); then
        echo "error: Ray did not start within 180 s; its messages are above" >&2
        exit 1
    fi
    sleep 1
done

# On every further node: Ray in a folder of its own, removed at the end.
# shellcheck disable=SC2016
worker='
    temporary=$(mktemp -d "/tmp/ray-$SLURM_JOB_ID-XXXX")
    ray start --temp-dir="$temporary" "$@" &
    ray_pid=$!
    trap "kill -TERM $ray_pid" TERM INT
    until wait "$ray_pid"; code=$?; ! kill -0 "$ray_pid" 2>/dev/null; do :; done
    rm -rf "$temporary"
    exit "$code"
'
if ((nodes > 1)); then
    srun --relative=1 --nodes=$((nodes - 1)) --ntasks=$((nodes - 1)) --ntasks-per-node=1 --overlap \
        --cpus-per-task="$cpus" bash -c "$worker" ray-worker --address="$address" "${ray_options[@]}" &
    workers_pid=$!
    python - "$address" "$nodes" <<'PYTHON'
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
wanted, deadline = int(sys.argv[2]), time.monotonic() + 180
while (alive := sum(node["Alive"] for node in ray.nodes())) < wanted and time.monotonic() < deadline:
    time.sleep(1)
if alive < wanted:
    print(f"warning: {alive} of {wanted} nodes joined within 180 s; the phase starts on those", file=sys.stderr)
PYTHON
fi

RAY_ADDRESS="$address" @command@ &
phase_pid=$!
code=0
wait "$phase_pid" || code=$?
while running "$phase_pid"; do # a signal cut the wait short
    code=0
    wait "$phase_pid" || code=$?
done
phase_pid=""
if ((code != 0)) && [[ -n $at_limit ]] && ((${SLURM_RESTART_COUNT:-0} < @requeues@)); then
    echo "the time limit is near: the job is queued again, and continues from its checkpoints"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
