"""Serve a translator of the embedded pair and measure it: seconds to the first answer, then a minute of parallel load.

    python -m benchmarks.serving [--trial DIR] [--seconds 60] [--clients 50] [--gpu]

Without a trial a short job is trained first. Every client asks one question after another, whole or streamed, greedily
or sampled, and compares each answer with the one that `Translator.generate` gives to the question alone.
"""

import argparse
import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.harness import default_device, python_path, save

PORT = 28417
NAMES = ("Tom", "Ann", "Max", "Eva", "Leo")
NUMBERS = ("dodici", "tre", "sette", "12", "twenty", "quattro")
QUESTIONS = [
    f"{name} has {number} apples and buys {bought} apples. How many apples does {name} have now?"
    for bought, (name, number) in enumerate(itertools.product(NAMES, NUMBERS), 2)
]
SAMPLED = {"temperature": 0.7, "seed": 11}


@dataclass
class Load:
    """What clients saw.

    Attributes:
        seconds: of each answer.
        wrong: answers that differ from those of the question alone, with both texts.
        lost: requests without an answer, and why.
        first_text: seconds to the first text of each stream.
    """

    seconds: list[float] = field(default_factory=list)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    first_text: list[float] = field(default_factory=list)


def expected_answers(trial: Path, questions: Sequence[str]) -> dict[tuple[str, bool], str]:
    """Return the answer to each question alone, greedy and sampled, decoded in this process."""
    from ray_bridge import Translator

    translator = Translator.load(trial)
    answers = {}
    for question in questions:
        answers[question, False] = translator.generate(question).text
        answers[question, True] = translator.generate(question, **SAMPLED).text  # type: ignore[call-overload]
    return answers


def run_load(
    url: str, model: str, expected: Mapping[tuple[str, bool], str], *, clients: int, seconds: float, token: str = ""
) -> Load:
    """Ask in parallel for some seconds and wait for every answer.

    Args:
        url: of the server.
        model: its name.
        expected: the right answers, by question and whether they are sampled.
        clients: requests in flight at any time.
        seconds: how long new requests are sent.
        token: of the server.
    """
    return asyncio.run(_run_load(url, model, expected, clients, seconds, token))


async def _run_load(
    url: str, model: str, expected: Mapping[tuple[str, bool], str], clients: int, seconds: float, token: str
) -> Load:
    load, until = Load(), time.monotonic() + seconds
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    cases = list(expected)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits, headers=headers) as client:

        async def ask_on(number: int) -> None:
            for turn in itertools.count():
                if time.monotonic() > until:
                    return
                question, sampled = case = cases[(number * 7 + turn) % len(cases)]
                body = {"model": model, "prompt": question} | (SAMPLED if sampled else {})
                began = time.monotonic()
                try:
                    text = await _asked(client, body, load, began, stream=(number + turn) % 2 == 0)
                except (httpx.HTTPError, ValueError, KeyError) as error:
                    load.lost.append(f"{type(error).__name__}: {error}")
                    continue
                load.seconds.append(time.monotonic() - began)
                if text != expected[case]:
                    load.wrong.append((text, expected[case]))

        await asyncio.gather(*(ask_on(number) for number in range(clients)))
    return load


async def _asked(client: httpx.AsyncClient, body: dict[str, Any], load: Load, began: float, *, stream: bool) -> str:
    if not stream:
        answer = await client.post("/v1/completions", json=body)
        answer.raise_for_status()
        return str(answer.json()["choices"][0]["text"])
    pieces, done = [], False
    async with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line == "data: [DONE]":
                done = True
            elif line.startswith("data: "):
                if not pieces:
                    load.first_text.append(time.monotonic() - began)
                pieces.append(json.loads(line.removeprefix("data: "))["choices"][0]["text"])
    if not done:
        raise ValueError("the stream broke off")
    return "".join(pieces)


def train(folder: Path) -> Path:
    """Train a short job on the embedded pair in this process and return its trial's folder."""
    from bridge_common.files import write_json
    from ray_bridge.config.presets import tiny, tiny_run
    from ray_bridge.training.session import LocalSession
    from ray_bridge.training.trainer import Trainer

    spec = tiny(steps=60, warmup_steps=5, eval_every=60, train_examples=2000, validation_examples=16, test_examples=20)
    trial = folder / "trials" / "full-0"
    trial.mkdir(parents=True)
    result = Trainer(spec, tiny_run(workers=1), trial, LocalSession(trial), trial / "cache").run()
    write_json(trial / "spec.json", {"variant": "full", "seed": 0, "spec": spec.model_dump(mode="json")})
    write_json(trial / "result.json", result)
    return trial


def first_answer(url: str, model: str, process: "subprocess.Popen[bytes]", began: float) -> float:
    """Ask until the server answers and return the seconds since it was started."""
    while process.poll() is None:
        try:
            answer = httpx.post(f"{url}/v1/completions", json={"model": model, "prompt": QUESTIONS[0]}, timeout=60)
            if answer.status_code == 200:
                return time.monotonic() - began
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise RuntimeError("the server ended; its message is above")


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values lies."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def main() -> None:
    """Train, serve, measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trial", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--gpu", action="store_true", help="save under a name of its own")
    options = parser.parse_args()
    default_device()  # one thread on CPUs
    with tempfile.TemporaryDirectory() as name:
        trial = options.trial or train(Path(name))
        expected = expected_answers(trial, QUESTIONS)
        url, model = f"http://127.0.0.1:{PORT}", trial.resolve().name
        variables = {n: v for n, v in os.environ.items() if n != "RAY_ADDRESS"} | {"PYTHONPATH": python_path()}
        began = time.monotonic()
        command = [sys.executable, "-m", "cluster", "serve", str(trial), "--port", str(PORT)]
        with subprocess.Popen(command, env=variables) as process:
            try:
                start = first_answer(url, model, process, began)
                print(f"first answer after {start:.1f} s", flush=True)
                load = run_load(url, model, expected, clients=options.clients, seconds=options.seconds)
            finally:
                process.send_signal(signal.SIGTERM)
    result = {
        "clients": options.clients,
        "load_s": options.seconds,
        "first_answer_s": round(start, 2),
        "answered": len(load.seconds),
        "lost": len(load.lost),
        "other_than_alone": len(load.wrong),
        "answers_per_s": round(len(load.seconds) / options.seconds, 1),
        "median_s": round(median(load.seconds), 3),
        "p99_s": round(percentile(load.seconds, 0.99), 3),
        "first_text_median_s": round(median(load.first_text), 3),
    }
    print(json.dumps(result, indent=2))
    save("serving-gpu" if options.gpu else "serving-cpu", result)
    if load.lost or load.wrong:
        print(*load.lost[:5], *load.wrong[:5], sep="\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
