"""A job whose target is spread over workers is the job of one worker: losses, weights, stored states and samples."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bridge_common.files import read_log
from ray_bridge.config.presets import tiny_run
from ray_bridge.distributed import Worker
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.local_jobs import small_spec
from tests.support.model_pairs import PairFolders, make_pair
from tests.support.workers import on_workers

pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {
    "steps": 4,
    "eval_every": 2,
    "train_examples": 16,  # each is asked for, so that states of source and teacher are stored
    "validation_examples": 4,
    "test_examples": 7,
    "decode_aware": True,
    "num_fewshot": 1,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "prepend": {"soft_position": "before_question"},
    "adapter": {"injection": "adapter"},
}


def run(worker: Worker, pair: PairFolders, shards: int, variants: tuple[str, ...], place: Path) -> None:
    """Run a job for each variant, and write what this worker ends with."""
    torch.set_num_threads(1)
    for name in variants:
        spec = small_spec(pair, **SETTINGS, **VARIANTS[name])
        own = replace(worker, shards=shards)
        run = tiny_run(workers=worker.world, eval_batch_size=3)
        folder = place / name
        trainer = Trainer(spec.replace(target_shards=shards), run, folder, LocalSession(folder, own), place / "cache")
        result = trainer.run()
        record = {"metrics": result["metrics"], "slow": trainer.pair.slow_paths()}
        (place / f"{name}-{worker.rank}.json").write_text(json.dumps(record))
        torch.save(trainer.translator.state_dict(), place / f"{name}-{worker.rank}.pt")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of the same jobs on one worker, and in groups of workers that hold a target."""
    place = tmp_path_factory.mktemp("runs")
    pair = make_pair(place / "pair", target_width=64, target_kv_heads=2)
    for name, world, shards in (("one", 1, 1), ("two parts", 2, 2), ("two copies", 2, 1), ("two groups", 4, 2)):
        (place / name).mkdir()
        variants = tuple(VARIANTS) if name in ("one", "two parts") else ("prepend",)
        if world == 1:
            run(Worker(), pair, 1, variants, place / name)
        else:
            on_workers(world, run, pair, shards, variants, place / name)
    return {path.name: path for path in place.iterdir() if path.name != "pair"}


@pytest.mark.parametrize(
    ("variant", "parts"),
    [("prepend", "two parts"), ("adapter", "two parts"), ("prepend", "two groups"), ("prepend", "two copies")],
)
def test_losses_weights_and_samples_are_those_of_one_worker(runs: dict[str, Path], variant: str, parts: str) -> None:
    alone, other = runs["one"], runs[parts]
    expected = load_file(alone / variant / "selected" / "translator.safetensors")
    found = load_file(other / variant / "selected" / "translator.safetensors")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    first, second = (losses(folder / variant) for folder in (alone, other))
    assert {"loss/rloo", "loss/on_policy_distill", "loss/answer_kl", "loss/contrast", "grad_norm/answer_nll"} <= {
        name for _, name in first
    }
    assert second.keys() == first.keys()
    for key, number in first.items():
        assert second[key] == pytest.approx(number, rel=2e-4, abs=2e-5), key
    samples = [(folder / variant / "samples.jsonl").read_bytes() for folder in (alone, other)]
    assert samples[0] == samples[1]


@pytest.mark.parametrize(
    ("variant", "parts", "world"),
    [("prepend", "two parts", 2), ("adapter", "two parts", 2), ("prepend", "two groups", 4)],
)
def test_every_worker_ends_with_the_same_bits(runs: dict[str, Path], variant: str, parts: str, world: int) -> None:
    states = [torch.load(runs[parts] / f"{variant}-{rank}.pt") for rank in range(world)]
    for other in states[1:]:
        assert all(torch.equal(other[name], value) for name, value in states[0].items())
    records = [json.loads((runs[parts] / f"{variant}-{rank}.json").read_text()) for rank in range(world)]
    assert all(record == records[0] for record in records)


def test_states_of_the_teacher_are_stored_once(runs: dict[str, Path]) -> None:
    stored = {name: sorted((path / "cache" / "frozen_states").glob("teacher-*")) for name, path in runs.items()}
    assert {name: len(files) for name, files in stored.items()} == {
        "one": 1,
        "two parts": 1,
        "two copies": 1,
        "two groups": 1,
    }
    assert stored["one"][0].name == stored["two copies"][0].name != stored["two parts"][0].name


def losses(folder: Path) -> dict[tuple[int, str], float]:
    """Every recorded loss, gradient norm and metric of rollouts, by step and name."""
    chosen = ("loss/", "grad_norm", "decode/", "validation/", "whitening/")
    return {
        (event["step"], name): value
        for event in read_log(folder / "events.jsonl")
        if event["kind"] == "metrics"
        for name, value in event["values"].items()
        if name.startswith(chosen)
    }
