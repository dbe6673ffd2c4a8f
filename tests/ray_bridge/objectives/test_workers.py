"""A batch is the same batch on one worker as on two: losses, gradients and completions."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ray_bridge.distributed import Worker
from ray_bridge.objectives.decode_aware import decode_terms
from ray_bridge.objectives.objective import backward, objective_terms
from tests.support.model_pairs import PairFolders
from tests.support.objective_steps import ParityTask, make_frame
from tests.support.workers import on_two_workers

TERMS = ["rloo", "on_policy_distill", "answer_nll", "answer_kl", "prompt_alignment", "flow", "contrast"]
BATCH = 6

pytestmark = pytest.mark.slow


def measure(folders: PairFolders, injection: str, worker: Worker) -> dict[str, Any]:
    """Losses and flat gradients of each term and of the whole objective, for this worker's share of one batch."""
    frame = make_frame(folders, ParityTask, decode_questions=3, injection=injection)
    every = decode_terms(frame.spec, frame.pair, frame.splits.train, batch_size=4)
    every += objective_terms(frame.spec)
    items = frame.items(BATCH)
    mine = [items[i] for i in worker.share(BATCH)]
    results: dict[str, Any] = {}
    for terms in [*([term] for term in every), every]:
        losses = backward(frame.step(mine, worker=worker), terms, frame.parameters, term_norms=True)
        flat = torch.cat([p.grad.flatten() for p in frame.parameters if p.grad is not None])
        results["+".join(term.name for term in terms)] = {
            "total": losses.total,
            "terms": dict(losses.terms),
            "norms": dict(losses.gradient_norms),
            "metrics": dict(losses.metrics),
            "gradient": flat,
        }
    return results


def part(worker: Worker, folders: PairFolders, injection: str, place: Path) -> None:
    torch.save(measure(folders, injection, worker), place / f"{worker.rank}.pt")


@pytest.fixture(scope="module", params=["prepend", "adapter"])
def results(
    folders: PairFolders, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> list[dict[str, Any]]:
    """What one worker finds, and each of two."""
    place = tmp_path_factory.mktemp("workers")
    on_two_workers(part, folders, request.param, place)
    return [measure(folders, request.param, Worker()), *(torch.load(place / f"{rank}.pt") for rank in range(2))]


@pytest.mark.parametrize("name", [*TERMS, "+".join(TERMS)])
def test_two_workers_equal_one(results: list[dict[str, Any]], name: str) -> None:
    alone, first, second = (result[name] for result in results)
    assert float(alone["gradient"].norm()) > 1e-5
    for pair in (first, second):
        assert pair["total"] == pytest.approx(alone["total"], rel=1e-6, abs=1e-6)
        for term, value in alone["terms"].items():
            assert pair["terms"][term] == pytest.approx(value, rel=1e-6, abs=1e-6)
            assert pair["norms"][term] == pytest.approx(alone["norms"][term], rel=1e-5, abs=1e-6)
        assert pair["metrics"] == pytest.approx(alone["metrics"])
        torch.testing.assert_close(pair["gradient"], alone["gradient"], rtol=1e-5, atol=1e-6)
    assert torch.equal(first["gradient"], second["gradient"])


def test_advantages_are_of_the_completions_of_both_workers(results: list[dict[str, Any]]) -> None:
    metrics = results[1]["rloo"]["metrics"]
    assert set(metrics) == {"decode/reward_mean", "decode/frac_zero_advantage", "decode/tokens"}
    assert 0 < metrics["decode/reward_mean"] < 1.1
