"""The moving average of the weights is evaluated, selected and resumed; and when decode-aware terms are recorded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bridge_common.files import read_json, read_log
from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.evaluation.selection import Weights, copy_weights
from ray_bridge.training.async_checkpoint import Fill
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.model_pairs import PairFolders

DECAY = 0.6


@pytest.fixture(scope="module")
def spec(folders: PairFolders) -> JobSpec:
    return tiny(
        source=folders.source,
        target=folders.target,
        soft_tokens=4,
        hidden_size=16,
        num_heads=2,
        depth=1,
        train_examples=40,
        validation_examples=4,
        test_examples=4,
        max_new_tokens=6,
        steps=6,
        batch_size=4,
        warmup_steps=1,
        eval_every=2,
        eval_dtype="as_trained",
        ema_decay=DECAY,
    )


class Watched(Trainer):
    """A job that keeps copies of its live weights after each step, and of the weights of each evaluation."""

    def __init__(self, spec: JobSpec, folder: Path, session: LocalSession | None = None) -> None:
        run = tiny_run(workers=1, checkpoint_every=1)
        super().__init__(spec, run, folder, session or LocalSession(folder), None)
        self.live: list[Weights] = []
        self.evaluated: list[Weights] = []
        self.chosen: list[tuple[Weights, Weights]] = []
        evaluate = self.evaluator.evaluate

        def watched(examples: Any, translator: Any, conditions: Any) -> Any:
            self.evaluated.append(copy_weights(translator.state_dict()))
            return evaluate(examples, translator, conditions)

        self.evaluator.evaluate = watched  # type: ignore[method-assign]

    def _train_step(self) -> None:
        if not self.live:
            self.live.append(copy_weights(self.translator.state_dict()))
        super()._train_step()
        self.live.append(copy_weights(self.translator.state_dict()))

    def _validate(self) -> None:
        super()._validate()
        self.chosen.append((self.best.weights, {name: value.clone() for name, value in self.best.weights.items()}))


class KilledError(Exception):
    pass


class DiesAt(LocalSession):
    """Ends the job right after a checkpoint."""

    def __init__(self, folder: Path, reports: int) -> None:
        super().__init__(folder)
        self.left = reports

    def report(self, step: int, metrics: Mapping[str, float], fill: Fill | None) -> None:
        super().report(step, metrics, fill)
        self.left -= 1
        if self.left == 0:
            raise KilledError


@pytest.fixture(scope="module")
def finished(spec: JobSpec, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    trainer = Watched(spec, tmp_path_factory.mktemp("finished"))
    trainer.run()
    return trainer


def averages_of(live: list[Weights]) -> list[Weights]:
    """The average after each step, by the definition: decay x average + (1 - decay) x weights."""
    averages = [live[0]]
    for weights in live[1:]:
        averages.append({name: DECAY * averages[-1][name] + (1 - DECAY) * weights[name] for name in weights})
    return averages


def same(first: Weights, second: Weights, tolerance: float = 0.0) -> bool:
    assert first.keys() == second.keys()
    return all(torch.allclose(first[name], second[name], rtol=tolerance, atol=tolerance) for name in first)


def test_the_average_is_what_is_evaluated(finished: Watched) -> None:
    expected = averages_of(finished.live)
    assert len(finished.live) == 7
    assert len(finished.evaluated) == 5  # before training, after steps 2, 4 and 6, and the chosen one on the test split
    for step, evaluated in zip((0, 2, 4, 6), finished.evaluated, strict=False):
        assert same(evaluated, expected[step], 1e-6)
        assert step == 0 or not same(evaluated, finished.live[step], 1e-5)


def test_the_average_is_what_is_selected(finished: Watched) -> None:
    chosen = load_file(finished.folder / "selected" / "translator.safetensors")
    step = read_json(finished.folder / "selected" / "selected.json")["step"]
    assert step in (0, 2, 4, 6)
    assert same(chosen, averages_of(finished.live)[step], 1e-6)
    assert same(chosen, finished.evaluated[-1])


def test_later_steps_do_not_change_the_best_weights(finished: Watched) -> None:
    assert len(finished.chosen) == 4
    assert all(same(kept, as_chosen) for kept, as_chosen in finished.chosen)


def test_without_average_the_live_weights_are_evaluated(spec: JobSpec, tmp_path: Path) -> None:
    trainer = Watched(spec.replace(ema_decay=0.0, steps=2), tmp_path)
    trainer.run()
    assert trainer.average == {}
    assert same(trainer.evaluated[1], trainer.live[2])


@pytest.mark.parametrize("reports", [1, 2, 3])  # after 2 steps the best weights are the average itself, perhaps
def test_a_killed_job_resumes_bit_for_bit(spec: JobSpec, finished: Watched, tmp_path: Path, reports: int) -> None:
    with pytest.raises(KilledError):
        Watched(spec, tmp_path, DiesAt(tmp_path, reports)).run()
    trainer = Watched(spec, tmp_path)
    trainer.run()
    assert len(trainer.live) == 1 + 6 - reports
    assert same(trainer.average, finished.average)
    assert same(trainer.live[-1], finished.live[-1])
    assert trainer.best.step == finished.best.step
    assert same(trainer.best.weights, finished.best.weights)
    for name in ("samples.jsonl", "selected/translator.safetensors"):
        assert (tmp_path / name).read_bytes() == (finished.folder / name).read_bytes()


def test_decode_aware_terms_are_recorded_where_norms_are(finished: Watched) -> None:
    records = [row for row in read_log(finished.folder / "events.jsonl") if row["kind"] == "metrics"]
    steps = {row["step"]: row["values"] for row in records if "loss/total" in row["values"]}
    assert sorted(steps) == [1, 2, 3, 4, 5, 6]
    names = {f"{kind}/{term}" for kind in ("loss", "grad_norm") for term in ("rloo", "on_policy_distill")}
    names |= {"decode/reward_mean", "decode/frac_zero_advantage", "decode/tokens"}
    for step, values in steps.items():
        assert names & values.keys() == (names if step % 2 == 0 else set())
        if step % 2 == 0:
            assert values["grad_norm/on_policy_distill"] > 0
            assert 1 <= values["decode/tokens"] <= 6
