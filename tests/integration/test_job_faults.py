"""A job that cannot succeed is not started again."""

from pathlib import Path
from typing import Any

import pytest

from bridge_common.errors import UserError
from bridge_common.trial_folder import TrialFolder
from ray_bridge import run_job, tiny, tiny_run

pytestmark = pytest.mark.slow


def test_a_loss_that_diverges_is_not_trained_again(tmp_path: Path, connected_ray: Any) -> None:
    spec = tiny(steps=20, warmup_steps=0, learning_rate=1e18, clip_norm=1e18, validation_examples=2, test_examples=2)
    trial = TrialFolder(tmp_path / "c" / "trials" / "full")
    with pytest.raises(UserError, match=r"training diverged at step \d+: .*: lower learning_rate"):
        run_job(spec, tiny_run(workers=1, max_failures=1), trial.path)
    starts = [event for event in trial.events() if event["kind"] == "tags" and "recompute_above" in event["values"]]
    assert len(starts) == 1, "a restart refuses before it loads anything"
