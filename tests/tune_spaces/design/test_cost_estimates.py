"""What a plan costs, and what its items can show."""

import numpy as np
import pytest

from bridge_common.intervals import wilson
from ray_bridge import paper, paper_run
from tune_spaces.design import cost_estimates


def test_gpu_hours_count_every_worker() -> None:
    cost = cost_estimates.CostModel(rates=cost_estimates.GPU, factors={}).estimate(paper(), paper_run())
    assert cost.gpu_hours == pytest.approx(4 * cost.minutes / 60)


def test_what_the_gate_can_resolve_at_this_n() -> None:
    """80 % of draws at the stated distance have their whole interval above the boundary."""
    n = 1319
    truth = 0.70 + cost_estimates.gate_resolution(n, 0.70)
    draws = np.random.default_rng(0).binomial(n, truth, size=400)
    assert np.mean([wilson(int(k), n)[0] > 0.70 for k in draws]) == pytest.approx(0.8, abs=0.06)
