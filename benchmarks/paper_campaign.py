"""Run campaigns of the preset `paper` on random weights through the command line, on a node of four GPUs; time them.

    python -m benchmarks.paper_campaign weights --folder DIR --data GSM8K    30 GB in the exact geometry, and tokenizers
    python -m benchmarks.paper_campaign gate --folder DIR --data GSM8K       from the command to the gate and to the
                                                                             next trial's first step; then it is stopped
    python -m benchmarks.paper_campaign slots --folder DIR --data GSM8K      four variants of two workers: two at a
                                                                             time, and one at a time; with
                                                                             --parallel 2 the former alone

GSM8K is a folder with its train.jsonl and test.jsonl. `--size tiny` does the same in miniature on a CPU, with the
embedded pair. Times are those that the trials record themselves, and when the command started and ended.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.multiprocessing

from benchmarks.harness import python_path, results_folder, save
from benchmarks.random_models import save_checkpoint
from bridge_common.files import read_json, read_log

SIDES = {"source": 16_000, "target": 32_000}
"""Both sides, and the sizes of their tokenizers, which differ so that tokens have to be aligned."""


def write_side(number: int, folder: Path, data: Path) -> None:
    """Write one checkpoint with random weights, on a GPU of its own, and its tokenizer, trained on the data."""
    begin, side = time.perf_counter(), list(SIDES)[number]
    device = torch.device("cuda", number) if torch.cuda.is_available() else torch.device("cpu")
    tokenizer = train_tokenizer(data / "train.jsonl", SIDES[side])
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    save_checkpoint(side, folder / side, tokenizer, device, **ids)
    print(f"{side}: {len(tokenizer)} tokens, {time.perf_counter() - begin:.0f} s", flush=True)


def train_tokenizer(texts: Path, size: int) -> Any:
    """Return a byte-level BPE tokenizer of at most `size` tokens, trained on the lines of a file of examples."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f"{row['question']}\n{row['answer']}" for row in read_log(texts)), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def command(options: argparse.Namespace, storage: Path, *arguments: str) -> list[str]:
    """Return the command of a campaign with the settings of the measurement."""
    settings: dict[str, Any] = {"soft_position": options.position}
    chosen = ["--preset", "paper", "--data", str(options.data)]
    if options.size == "tiny":
        settings |= {"steps": 6, "warmup_steps": 2, "eval_every": 3, "validation_examples": 8, "test_examples": 12}
        chosen = ["--preset", "tiny"]
    else:
        chosen += [part for side in SIDES for part in (f"--{side}", str(options.folder / side))]
    settings |= dict(pair.split("=", 1) for pair in options.set)
    sets = [part for field, value in settings.items() for part in ("--set", f"{field}={value}")]
    where = ["--storage", str(storage), "--reports", str(storage / "reports")]
    return [sys.executable, "-m", "cluster", *arguments, *chosen, *sets, *where]


def run(line: list[str], log: Path, done: Callable[[], bool], limit: float) -> dict[str, Any]:
    """Run a command until it ends, or until `done` is true or `limit` seconds have passed: then it gets SIGTERM.

    Returns:
        When it started, its seconds, its exit code and, if it was stopped, the seconds from the signal to its end.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        began = time.time()
        process = subprocess.Popen(
            line, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": python_path()}
        )
        stopped: float | None = None
        while process.poll() is None:
            time.sleep(0.2)
            if stopped is None and (done() or time.time() - began > limit):
                stopped = time.time()
                process.send_signal(signal.SIGTERM)
    ended = time.time()
    found = {"began": began, "seconds": round(ended - began, 1), "exit_code": process.returncode}
    return found if stopped is None else found | {"stop_seconds": round(ended - stopped, 1)}


def metrics(trial: Path) -> Iterator[tuple[float, int | None, Mapping[str, float]]]:
    """Yield the time, the step and the values of each point that a trial has recorded."""
    if (trial / "events.jsonl").is_file():
        for event in read_log(trial / "events.jsonl"):
            if event["kind"] == "metrics":
                yield float(event["time"]), event.get("step"), event["values"]


def timeline(trial: Path, began: float) -> dict[str, Any]:
    """Return seconds after `began` at which a trial's stages ended, and the medians of its steps and evaluations."""
    points = list(metrics(trial))
    steps = [values["seconds_per_step"] for _time, _step, values in points if "seconds_per_step" in values]
    aware = [v["seconds_per_step"] for _time, _step, v in points if "seconds_per_step" in v and "loss/rloo" in v]
    found: dict[str, Any] = {"trial": trial.name, "steps_recorded": len(steps)}
    if times := [event["time"] for event in read_log(trial / "events.jsonl") if event["kind"] == "status"]:
        found["begins"] = round(times[0] - began, 1)
        found["ends"] = round(times[-1] - began, 1)
    for at, _step, values in points:
        if "start/seconds_to_first_step" in values:
            found["first_step"] = round(at - began, 1)
            found["start"] = dict(values)
        if "loss/total" in values:
            found["last_step"] = round(at - began, 1)
        if "accuracy/bridged" in values:
            found["tested"] = round(at - began, 1)
            found["test"] = {n: v for n, v in values.items() if n == "n" or n.startswith(("tokens/", "truncated/"))}
    if steps:
        plain = sorted(steps)[: len(steps) - len(aware)] or steps
        found |= {"step_ms": round(1e3 * median(plain), 1), "decode_aware_step_s": aware and round(median(aware), 2)}
    found["validations"] = [
        round(at - points[i - 1][0], 2) for i, (at, _s, v) in enumerate(points) if i and "validation/n" in v
    ]
    return found


def gate(options: argparse.Namespace) -> dict[str, Any]:
    """Time phase 1 up to its gate, and up to the first step of the trial that follows it; then stop it."""
    storage = options.folder / f"runs-gate-{options.position}"
    campaign = storage / "bench"
    decided: list[float] = []

    def second_has_stepped() -> bool:
        if not decided and (campaign / "gate.json").is_file() and read_json(campaign / "gate.json")["decisions"]:
            decided.append(time.time())
        trials = list((campaign / "trials").glob("*"))
        return len(trials) > 1 and all(
            any("start/seconds_to_first_step" in values for *_, values in metrics(trial)) for trial in trials
        )

    gates = ("--gate-passes", "1", "--gate-attribute", "1")  # whatever the accuracy is, a trial follows
    line = command(options, storage, "phase1", "--name", "bench", *gates)
    found = run(line, results_folder() / "gate.log", second_has_stepped, options.limit)
    found |= {"gate": round(decided[0] - found["began"], 1)} if decided else {}
    order = sorted((campaign / "trials").glob("*"), key=lambda trial: next(metrics(trial), (float("inf"), 0, {}))[0])
    rows = [timeline(trial, found["began"]) for trial in order]
    return found | {"command": line[1:], "trials": rows, "between": between(rows)}


def between(rows: list[dict[str, Any]]) -> list[float]:
    """Return the seconds from a trial's end to the first step of the one that followed it in its place, in their order.

    Trials do not record their place. Each begins as soon as one is free, so that they take the places in the order in
    which these became free, each of them once.
    """
    found: list[float] = []
    free = sorted(row["ends"] for row in rows if "ends" in row)
    for row in sorted((row for row in rows if "begins" in row), key=lambda row: float(row["begins"])):
        if free and free[0] <= row["begins"]:
            ended = free.pop(0)
            if "first_step" in row:
                found.append(round(row["first_step"] - ended, 1))
    return found


def slots(options: argparse.Namespace) -> dict[str, Any]:
    """Time a campaign of four variants of two workers each, with so many trials at a time as are asked for."""
    found: dict[str, Any] = {}
    for parallel in options.parallel:
        storage = options.folder / f"runs-parallel-{parallel}"
        design = ("--design", "factorial", "--toggle", "kl", "--toggle", "prompt")
        line = command(
            options, storage, "ablate", *design, "--name", "bench", "--parallel", str(parallel), "--set", "workers=2"
        )
        result = run(line, results_folder() / f"parallel-{parallel}.log", lambda: False, options.limit)
        trials = sorted((storage / "bench" / "trials").glob("*"))
        rows = [timeline(trial, result["began"]) for trial in trials]
        found[f"parallel {parallel}"] = result | {"command": line[1:], "trials": rows, "between": between(rows)}
    return found


def main() -> None:
    """Write the weights, or measure and save the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("weights", "gate", "slots"))
    parser.add_argument("--size", choices=("tiny", "paper"), default="paper")
    parser.add_argument("--folder", type=Path, required=True, help="folder for the weights and the campaigns")
    parser.add_argument("--data", type=Path, help="folder with GSM8K's train.jsonl and test.jsonl")
    parser.add_argument("--position", choices=("before_question", "first"), default="before_question")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="as of `python -m cluster`")
    parser.add_argument("--parallel", type=int, nargs="+", default=[2, 1], help="of `slots`: trials at a time")
    parser.add_argument("--limit", type=float, default=540, help="seconds after which a campaign is stopped")
    options = parser.parse_args()
    if options.what == "weights":
        torch.multiprocessing.spawn(write_side, (options.folder, options.data), nprocs=len(SIDES))
        return
    measured = gate(options) if options.what == "gate" else slots(options)
    place = f"{torch.cuda.device_count()}-gpus" if torch.cuda.is_available() else "cpu"
    save(
        f"campaign-{options.size}-{options.what}-{place}",
        {"size": options.size, "measured": measured},
    )


if __name__ == "__main__":
    main()
